// One timed pass through an Engine made for it.
#pragma once

#include <spillway/aio/engine.h>
#include <string>
#include <vector>

#include "cell.h"
#include "figures.h"
#include "request_stream.h"

namespace spillway::aio_bench {

// Fast on every drive with little pending: what filling and verifying use. Its buffers are needed
// beside those of the settings to measure.
inline constexpr Setting kPlainSetting{
    .block_size_bytes = 1 << 20, .queue_depth = 8, .thread_count = 1};

// What all passes of a run share.
struct Rig {
  TestFile& test;
  const Pattern& pattern;
  const Buffers& buffers;
  aio::BackendKind backend = aio::BackendKind::kAuto;
  Check check = Check::kStamps;
  int read_percent = 50;       // of the mix
  std::vector<int> cpus = {};  // for the engine's threads; empty: any
};

// Keeps the engine's queues full and measures, once they are, for about `seconds`: what was moved
// between two looks at the engine's counters. Nothing is pending when it returns, and what was
// written is with the drive. kCorrupt when what was read is not what was written, kCancelled when
// a signal asked the program to end.
Result<Measurement> run_pass(const Rig& rig, Workload workload, const Setting& setting,
                             double seconds);

// Writes the file from the front, for at most `seconds`, and cuts off what did not get written.
// Returns the bytes a second.
Result<double> fill(const Rig& rig, double seconds);

// Reads the whole file and checks every byte.
Result<void> verify(const Rig& rig);

// An Engine as the passes use it, for a moment: what it chose, and what it could not have.
struct EngineTrial {
  std::string choice;
  std::vector<std::string> notes;
};
Result<EngineTrial> try_engine(aio::BackendKind backend, const Buffers& buffers);

}  // namespace spillway::aio_bench
