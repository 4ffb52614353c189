// Affinity: the CPUs of a thread.
#pragma once

#include <spillway/aio/error.h>
#include <vector>

namespace spillway::aio {

// CPU numbers in a CPU set of this kernel interface.
inline constexpr int kMaxCpus = 1024;

// Binds the calling thread, and threads that it starts later, to these CPUs; does nothing if
// `cpus` is empty. kInvalid if the machine does not have them or this process may use none.
// REQUIRES: each from 0 to kMaxCpus - 1.
Result<void> run_this_thread_on(const std::vector<int>& cpus);

}  // namespace spillway::aio
