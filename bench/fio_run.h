// The twin that fio is (fio_job.h), of a pass of the engine.
#pragma once

#include <spillway/aio/file.h>

#include "engine_pass.h"

namespace spillway::bench {

// Each thread moves its part of the file once.
Result<Run> run_fio(const aio::File& file, std::uint64_t size_bytes, const Setting& setting);

// io_uring_enter calls of such a run, counted by strace, which slows it down; 0 without strace.
std::uint64_t fio_system_calls(const aio::File& file, std::uint64_t size_bytes,
                               const Setting& setting);

}  // namespace spillway::bench
