// Lists the names in a directory.
#pragma once

#include <filesystem>
#include <set>
#include <string>

namespace spillway::swapper {

inline std::set<std::string> names_in(const std::filesystem::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.insert(entry.path().filename());
  }
  return names;
}

}  // namespace spillway::swapper
