// Reads the files of a directory: bytes by name, and inodes.
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>

namespace spillway::trainer::testing {

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::map<std::string, std::string> contents(const std::filesystem::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    files[entry.path().filename()] = bytes_of(entry.path());
  }
  return files;
}

// Returns the inodes of all files in it.
inline std::set<ino_t> inodes(const std::filesystem::path& directory) {
  std::set<ino_t> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    struct stat status {};
    if (::stat(entry.path().c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      found.insert(status.st_ino);
    }
  }
  return found;
}

}  // namespace spillway::trainer::testing
