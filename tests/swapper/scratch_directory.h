// A directory of the test's own, removed with it. In SPILLWAY_TEST_DIR, or else in the working
// directory (the build folder: a real disk, where /tmp may be memory).
#pragma once

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

namespace spillway::swapper {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    const char* parent = std::getenv("SPILLWAY_TEST_DIR");
    std::string name =
        (parent != nullptr ? std::filesystem::path(parent) : std::filesystem::current_path()) /
        "spillway_test_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.insert(entry.path().filename());
    }
    return names;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace spillway::swapper
