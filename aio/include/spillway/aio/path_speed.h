// PathSpeed: the present speed of a directory's drive, by a short timed write and read.
//
// A rough figure, to distribute bytes over drives of uneven speed; for tuning use aio_bench. It
// works on an unnamed file, so no file is left. Blocks for at most twice `limit`, or until
// `size_bytes` were written and read.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/export.h>
#include <chrono>
#include <cstdint>
#include <filesystem>

namespace spillway::aio {

struct PathSpeedOptions {
  std::uint64_t size_bytes = std::uint64_t{128} << 20;  // written, then read; 4 MiB at least
  std::chrono::milliseconds limit{400};                 // for each of the two
};

struct SPILLWAY_API PathSpeed {
  double write_bytes_per_second = 0;
  double read_bytes_per_second = 0;
  // Returns the speed of equal parts of reads and writes: the harmonic mean of the two.
  double mixed_bytes_per_second() const;
};

// Measures `directory` with incompressible data, with direct I/O if the filesystem supports it.
// Returns the errors of its writes and reads (kNoSpace, kIo, ...).
SPILLWAY_API Result<PathSpeed> measure_path_speed(Engine& engine,
                                                  const std::filesystem::path& directory,
                                                  const PathSpeedOptions& options = {});

}  // namespace spillway::aio
