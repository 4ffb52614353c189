#include "machine_card.h"

#include <sys/utsname.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

namespace {

// The text after the colon of the first line of `path` that begins with `key`.
std::string field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) {
      const std::string value = line.substr(line.find(':') + 1);
      return value.substr(std::min(value.find_first_not_of(' '), value.size()));
    }
  }
  return "unknown";
}

std::string commit() {
  std::array<char, 64> line{};
  if (FILE* git = ::popen("git -C " SPILLWAY_SOURCE_DIR " describe --always 2>/dev/null", "r")) {
    if (std::fgets(line.data(), line.size(), git) == nullptr) {
      line[0] = '\0';
    }
    ::pclose(git);
  }
  const std::string name = line.data();
  return name.empty() ? "unknown" : name.substr(0, name.find('\n'));
}

}  // namespace

void print_machine_card() {
  utsname system{};
  ::uname(&system);
  std::printf("- CPU: %s, %u cores; %s of memory\n", field("/proc/cpuinfo", "model name").c_str(),
              std::thread::hardware_concurrency(), field("/proc/meminfo", "MemTotal").c_str());
  std::printf("- %s %s; gcc %s; torch %s; Spillway %s\n", system.sysname, system.release,
              __VERSION__, TORCH_VERSION, commit().c_str());
}
