// One timed pass of an Engine over a file, every page of which says where it belongs.
#pragma once

#include <spillway/aio/engine.h>
#include <cstdint>

namespace spillway::bench {

struct Setting {
  aio::Direction direction = aio::Direction::kRead;
  std::uint32_t block_size_bytes = 0;
  std::uint32_t queue_depth = 0;
};

struct Run {
  double seconds = 0;
  double cpu_seconds = 0;  // user and system
  std::uint64_t bytes = 0;
  std::uint64_t system_calls = 0;  // 0 where they are not known

  double gb() const { return static_cast<double>(bytes) / 1e9; }
  double gb_per_second() const { return gb() / seconds; }
};

// Writes or reads all `size_bytes` (a multiple of 4096) with an Engine of one thread, made and
// registered before the clock starts. A write stamps each page, a read checks the stamps: both are
// timed, one word a page. kCorrupt when a stamp is wrong.
Result<Run> run_engine(const aio::File& file, std::uint64_t size_bytes, const Setting& setting);

}  // namespace spillway::bench
