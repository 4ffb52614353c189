// fio as a twin of the engine: the same file, block size, depth and direction.
#pragma once

#include <spillway/aio/file.h>
#include <string>

#include "engine_pass.h"

namespace spillway::bench {

// What a shell command prints; empty when it fails.
std::string output_of(const std::string& command);

// "fio-3.33"; empty when there is no fio.
std::string fio_version();

enum class FioStyle {
  kPlain,  // as people run it: one submission an operation, buffers on plain pages
  kTuned,  // in batches as large as the depth, buffers on huge pages where some are free
};

// One job over the whole file: io_uring, direct, with registered buffers and files as the engine
// has them. The seconds are fio's own: starting it is not counted.
Result<Run> run_fio(const aio::File& file, std::uint64_t size_bytes, const Setting& setting,
                    FioStyle style);

// Whether enough huge pages are free for the buffers of every cell, fio's and the engine's.
bool huge_pages_are_free();

}  // namespace spillway::bench
