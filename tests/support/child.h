// Runs a test's body in a child process, for limits and filters that a process cannot undo.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>

namespace spillway {

// Returns what `body` returned (empty: success), or how the child died. A child that lives longer
// than `limit_s` (0: no limit) is killed by SIGALRM. REQUIRES: no other thread, or a body that
// needs nothing of one.
inline std::string in_child(const std::function<std::string()>& body, unsigned limit_s = 0) {
  int channel[2];
  if (::pipe(channel) != 0) return "pipe failed";
  pid_t pid = ::fork();
  if (pid < 0) return "fork failed";
  if (pid == 0) {
    ::close(channel[0]);
    ::alarm(limit_s);
    std::string result = body();
    ssize_t written = ::write(channel[1], result.data(), result.size());
    ::_exit(written == static_cast<ssize_t>(result.size()) ? 0 : 1);
  }
  ::close(channel[1]);
  std::string result;
  char part[4096];
  for (ssize_t n = 0; (n = ::read(channel[0], part, sizeof part)) > 0;) {
    result.append(part, static_cast<std::size_t>(n));
  }
  ::close(channel[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (WIFSIGNALED(status) && limit_s > 0 && WTERMSIG(status) == SIGALRM) {
    return "hangs: after " + std::to_string(limit_s) + " s it was still there";
  }
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return "exit code " + std::to_string(WEXITSTATUS(status));
  return result;
}

}  // namespace spillway
