#include "io_uring_access.h"

#include <cerrno>
#include <cstring>
#include <fstream>

namespace spillway::aio {
namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "2" where a seccomp filter watches this process (proc(5)).
std::string seccomp_mode() {
  std::ifstream status("/proc/self/status");
  const std::string key = "Seccomp:";
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, key.size(), key) == 0) {
      auto at = line.find_first_not_of(" \t", key.size());
      return at == std::string::npos ? "" : line.substr(at);
    }
  }
  return "";
}

}  // namespace

Refusal explain_io_uring_refusal(int errno_value) {
  const char* name = ::strerrorname_np(errno_value);
  std::string code = name != nullptr ? name : "errno " + std::to_string(errno_value);
  std::string disabled = first_line("/proc/sys/kernel/io_uring_disabled");
  if (errno_value == EPERM && !disabled.empty() && disabled != "0") {
    return {code + ": kernel.io_uring_disabled = " + disabled,
            "sysctl kernel.io_uring_disabled=0 (as root), or put the user into the group "
            "kernel.io_uring_group"};
  }
  if ((errno_value == EPERM || errno_value == EACCES || errno_value == ENOSYS) &&
      seccomp_mode() == "2") {
    return {code + ": a seccomp filter of this process (a container's default) forbids io_uring",
            "run the container with a seccomp profile that allows io_uring_setup, io_uring_enter "
            "and io_uring_register"};
  }
  if (errno_value == ENOSYS) {
    return {code + ": this kernel has no io_uring", "use Linux 5.13 or newer with io_uring built"};
  }
  if (errno_value == ENOMEM) {
    return {code + ": RLIMIT_MEMLOCK or the cgroup has no room for the rings",
            "raise the limit (ulimit -l unlimited)"};
  }
  if (errno_value == EMFILE || errno_value == ENFILE) {
    return {code + ": no file descriptor is left", "raise the limit (ulimit -n)"};
  }
  return {code + ": " + std::strerror(errno_value), ""};
}

}  // namespace spillway::aio
