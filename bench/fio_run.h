// fio as a twin of the engine: the same file, block size, depth, threads and mix.
#pragma once

#include <spillway/aio/file.h>
#include <string>

#include "engine_pass.h"

namespace spillway::bench {

// What a shell command prints; empty when it fails.
std::string output_of(const std::string& command);

// "fio-3.33"; empty when there is no fio.
std::string fio_version();

// One job a thread, each over its part of the file: io_uring, direct, registered buffers and files,
// submissions and completions in batches as large as the depth, buffers on huge pages where enough
// are free. The seconds are fio's own: starting it is not counted.
Result<Run> run_fio(const aio::File& file, std::uint64_t size_bytes, const Setting& setting);

// io_uring_enter calls of such a run, counted by strace, which slows it down; 0 without strace.
std::uint64_t fio_system_calls(const aio::File& file, std::uint64_t size_bytes,
                               const Setting& setting);

// Whether `size_bytes` of huge pages are free.
bool huge_pages_are_free(std::uint64_t size_bytes);

}  // namespace spillway::bench
