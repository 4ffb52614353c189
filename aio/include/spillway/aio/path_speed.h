// How fast a directory's drive is right now: a short timed write and read.
//
// For dealing bytes out to drives of uneven speed, where a rough figure is enough; aio_bench is the
// tool that tunes. Uses a file with no name, so nothing is left behind. Blocks for `limit` twice at
// the most, or until `size_bytes` were moved twice.
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
  // As many bytes written as read: the harmonic mean of the two.
  double mixed_bytes_per_second() const;
};

// Past the page cache where the filesystem can. Data that no drive compresses. kNoSpace, kIo, ...
// as the writes and reads report them.
SPILLWAY_API Result<PathSpeed> measure_path_speed(Engine& engine,
                                                  const std::filesystem::path& directory,
                                                  const PathSpeedOptions& options = {});

}  // namespace spillway::aio
