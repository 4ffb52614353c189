// SPILLWAY_CHECK(condition, "reason"): verifies a precondition, in release builds too.
//
// A broken precondition is a bug in the program: the process aborts with the place and the reason.
// A failure of the environment (EIO, a full disk, a bad file) is a Result instead.
#pragma once

#include <spillway/aio/export.h>

namespace spillway {

// Prints one line, place and reason, and aborts.
[[noreturn]] SPILLWAY_API void check_failed(const char* condition, const char* file, int line,
                                            const char* reason) noexcept;

}  // namespace spillway

// Ends the process unless the condition holds.
#define SPILLWAY_CHECK(condition, reason)                                 \
  do {                                                                    \
    if (!(condition)) [[unlikely]] {                                      \
      ::spillway::check_failed(#condition, __FILE__, __LINE__, (reason)); \
    }                                                                     \
  } while (false)
