#include <spillway/aio/check.h>

#include <cstdio>
#include <cstdlib>

namespace spillway {

// The one place where a library prints: the process is about to die, and nobody else can say why.
void check_failed(const char* condition, const char* file, int line, const char* reason) noexcept {
  std::fprintf(stderr, "spillway: %s:%d: %s (the check was: %s)\n", file, line, reason, condition);
  std::fflush(stderr);
  std::abort();
}

}  // namespace spillway
