// Where a thread may run.
#pragma once

#include <spillway/aio/error.h>
#include <vector>

namespace spillway::aio {

// Numbers that a CPU set of this kernel interface can hold.
inline constexpr int kMaxCpus = 1024;

// Lets the calling thread, and threads it starts later, run on these CPUs alone; empty: does
// nothing. kInvalid when the machine does not have them or this process may not use any.
// REQUIRES: each from 0 to kMaxCpus - 1.
Result<void> run_this_thread_on(const std::vector<int>& cpus);

}  // namespace spillway::aio
