// Ctrl-C and SIGTERM: a wish to end, which the passes look at; a second one ends the process at
// once. Nothing is left behind either way: the test file has no name while it is in use.
#pragma once

namespace spillway::aio_bench {

void watch_for_signals();

// The signal that asked to end; 0 when none did.
int interrupted_by();

}  // namespace spillway::aio_bench
