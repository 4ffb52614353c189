// Makes a directory for a test's files, on a real disk if the machine has one: tmpfs accepts direct
// I/O that no disk would. Its parent is TMPDIR, which CTest sets, or the current directory.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace spillway {

class Scratch {
 public:
  Scratch() {
    static std::atomic<int> last{0};
    const char* base = std::getenv("TMPDIR");
    path_ = (base != nullptr ? std::filesystem::path(base) : std::filesystem::current_path()) /
            ("scratch." + std::to_string(::getpid()) + "." + std::to_string(++last));
    std::filesystem::create_directories(path_);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace spillway
