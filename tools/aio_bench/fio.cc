#include "fio.h"

#include <algorithm>

#include "tools/fio/fio_job.h"

namespace spillway::aio_bench {

bool fio_has_huge_pages(const Setting& setting) {
  return fio::has_huge_pages(setting.in_flight_bytes());
}

Result<double> run_fio(const TestFile& test, Workload workload, const Setting& setting,
                       int read_percent, double seconds) {
  // fio deals evenly: no more of each file than the shortest has.
  std::uint64_t share = test.size_bytes();
  for (const aio::File& file : test.files()) {
    share = std::min(share, file.size_bytes().value_or(0));
  }
  // Each job has a part of the file to itself, as the engine's threads never move the same bytes.
  const std::uint64_t part =
      share / setting.thread_count / setting.block_size_bytes * setting.block_size_bytes;
  auto moved = fio::run({.files = test.files(),
                         .workload = workload == Workload::kMix ? "rw" : name_of(workload),
                         .read_percent = read_percent,
                         .block_size_bytes = setting.block_size_bytes,
                         .queue_depth = setting.queue_depth,
                         .thread_count = setting.thread_count,
                         .part_bytes = part,
                         .seconds = seconds});
  if (!moved) return tl::unexpected(std::move(moved.error()));
  return static_cast<double>(moved->bytes) / 1e9 / moved->seconds;
}

}  // namespace spillway::aio_bench
