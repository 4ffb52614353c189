// Ctrl-C and SIGTERM: the first one sets a flag that the passes check, a second one ends the
// process at once. No file is left either way: the test file has no name while it is in use.
#pragma once

namespace spillway::aio_bench {

void watch_for_signals();

// Returns the signal that was received; 0 if none was.
int interrupted_by();

}  // namespace spillway::aio_bench
