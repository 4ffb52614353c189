// One pass over the test file through an Engine, timed.
#pragma once

#include <spillway/aio/engine.h>
#include <string>
#include <vector>

#include "aio_bench_file.h"
#include "aio_bench_options.h"

namespace spillway::aio_bench {

struct Measurement {
  double seconds = 0;
  double cpu_seconds = 0;  // user and system, all threads, the check of the stamps included
  std::uint64_t bytes = 0;
  std::uint64_t system_calls = 0;  // of the engine

  double gb_per_second() const { return static_cast<double>(bytes) / 1e9 / seconds; }
};

enum class Check {
  kStamps,  // one word a page, while the pass is timed
  kAll,     // every byte
};

// Reads or writes the whole file once with an Engine made for it; making it is not timed. The
// requests are large, as a trainer's are, and enough of them are pending to keep the queues full.
// kCorrupt when the bytes read are not those that were written.
Result<Measurement> run_pass(TestFile& test, const Cell& cell, aio::BackendKind backend,
                             Check check);

// An Engine as the passes use it, for a moment: what it chose, and what it could not have.
struct EngineTrial {
  std::string choice;
  std::vector<std::string> notes;
};
Result<EngineTrial> try_engine(aio::BackendKind backend);

}  // namespace spillway::aio_bench
