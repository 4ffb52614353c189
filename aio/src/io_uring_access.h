// Why this machine refuses io_uring, in words a user can act on.
#pragma once

#include <string>

namespace spillway::aio {

struct Refusal {
  std::string reason;  // "EPERM: kernel.io_uring_disabled = 2"
  std::string fix;     // what the user can do
};

// `errno_value` is what io_uring_setup failed with.
Refusal explain_io_uring_refusal(int errno_value);

}  // namespace spillway::aio
