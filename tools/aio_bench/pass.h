// One timed pass through an Engine of its own.
#pragma once

#include <spillway/aio/engine.h>
#include <string>
#include <vector>

#include "cell.h"
#include "figures.h"
#include "request_stream.h"

namespace spillway::aio_bench {

// The setting for filling and verifying: fast on every drive with little in flight. It needs
// buffers in addition to those of the settings to measure.
inline constexpr Setting kPlainSetting{
    .block_size_bytes = 1 << 20, .queue_depth = 8, .thread_count = 1};

// The parts that all passes of a run share.
struct Rig {
  TestFile& test;
  const Pattern& pattern;
  const Buffers& buffers;
  aio::BackendKind backend = aio::BackendKind::kAuto;
  Check check = Check::kStamps;
  int read_percent = 50;       // of the mix
  std::vector<int> cpus = {};  // for the engine's threads; empty: any
};

// Fills the engine's queues, keeps them full for about `seconds`, and measures the bytes moved
// between two reads of the engine's counters. When it returns no request is in flight, and the
// drive has all writes. kCorrupt if the bytes read are not those written, kCancelled after a
// signal.
Result<Measurement> run_pass(const Rig& rig, Workload workload, const Setting& setting,
                             double seconds);

// Writes the file from the front, for at most `seconds`, and truncates the unwritten rest. Returns
// the bytes per second.
Result<double> fill(const Rig& rig, double seconds);

// Reads the whole file and checks every byte.
Result<void> verify(const Rig& rig);

// Makes an Engine as the passes do, and returns its choice and the facilities it lacks.
struct EngineTrial {
  std::string choice;
  std::vector<std::string> notes;
};
Result<EngineTrial> try_engine(aio::BackendKind backend, const Buffers& buffers);

}  // namespace spillway::aio_bench
