// What signals ask of a training run.
//
// SIGINT: stop now. SIGTERM and SIGUSR1: where checkpoints are written, stop after the step, with
// one; else stop now. A second signal stops now in any case, and one more ends the process at once.
#pragma once

#include <atomic>

namespace spillway::tools {

// Both are false until a signal comes.
const std::atomic<bool>& stop_now();
const std::atomic<bool>& stop_after_step();

// `saves`: the run writes checkpoints.
void listen_to_signals(bool saves);

}  // namespace spillway::tools
