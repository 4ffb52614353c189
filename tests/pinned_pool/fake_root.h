// Writes a directory that stands for "/", with fake /proc and cgroup files.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace spillway::pinned_pool {

class FakeRoot {
 public:
  FakeRoot() {
    std::string name = std::filesystem::temp_directory_path() / "spillway_root_XXXXXX";
    path_ = mkdtemp(name.data());
    write("proc/self/status",
          "VmLck:\t       0 kB\nVmPin:\t       0 kB\nCapEff:\t0000000000000000\n");
    write("proc/self/limits",
          "Limit                     Soft Limit           Hard Limit           Units     \n"
          "Max locked memory         8388608              16777216             bytes     \n");
    write("proc/meminfo",
          "MemTotal:       24684096 kB\nMemAvailable:   1048576 kB\nHugePages_Total:       8\n"
          "HugePages_Free:        6\nHugePages_Rsvd:        2\nHugepagesize:       2048 kB\n");
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  void write(const std::filesystem::path& file, const std::string& text) const {
    std::filesystem::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file) << text;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace spillway::pinned_pool
