// Refusal: why this machine refuses io_uring, and the remedy.
#pragma once

#include <string>

namespace spillway::aio {

struct Refusal {
  std::string reason;  // "EPERM: kernel.io_uring_disabled = 2"
  std::string fix;     // for the user
};

// Explains the `errno_value` of a failed io_uring_setup.
Refusal explain_io_uring_refusal(int errno_value);

}  // namespace spillway::aio
