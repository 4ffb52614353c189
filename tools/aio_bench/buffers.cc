#include "buffers.h"

#include <algorithm>
#include <bit>

namespace spillway::aio_bench {
namespace {

// A buffer holds a whole period of the pattern: the request lies in it as it lies in the file.
std::uint64_t buffer_bytes_for(const std::vector<Setting>& settings) {
  std::uint64_t bytes = Pattern::kPeriodBytes;
  for (const Setting& one : settings) bytes = std::max(bytes, plan_for(one).request_bytes);
  return bytes;
}

std::size_t count_for(const std::vector<Setting>& settings) {
  std::size_t count = 0;
  for (const Setting& one : settings) count = std::max(count, plan_for(one).count);
  return count;
}

}  // namespace

RequestPlan plan_for(const Setting& setting) {
  const std::uint64_t block = setting.block_size_bytes;
  const std::uint64_t in_flight = setting.in_flight_bytes();
  // A quarter of what is in flight: in a mix both directions are then always in the queues.
  const std::uint64_t bytes = std::clamp<std::uint64_t>(
      std::bit_floor(in_flight / 4), block, std::max<std::uint64_t>(block, Pattern::kPeriodBytes));
  return {.request_bytes = bytes, .count = (in_flight + bytes - 1) / bytes + 3};
}

std::uint64_t Buffers::bytes_for(const std::vector<Setting>& settings) {
  return 2 * count_for(settings) * buffer_bytes_for(settings);
}

Result<Buffers> Buffers::create(const std::vector<Setting>& settings, const Pattern& pattern,
                                int numa_node) {
  auto slab = pinned_pool::Slab::create({.size_bytes = bytes_for(settings),
                                         .cuda = pinned_pool::Policy::kOff,
                                         .numa_node = numa_node});
  if (!slab) return tl::unexpected(slab.error());
  Buffers buffers(std::move(*slab), buffer_bytes_for(settings));
  for (std::size_t i = 0; i < count_for(settings); ++i) pattern.fill(buffers.source(i));
  return buffers;
}

}  // namespace spillway::aio_bench
