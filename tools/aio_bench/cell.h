// Cell: the workload and the setting of the engine of one figure.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::aio_bench {

enum class Workload {
  kRead,
  kWrite,
  kMix,  // reads and writes interleaved through one engine, as in an optimizer step
};
const char* name_of(Workload workload);
std::optional<Workload> workload_of(std::string_view name);

struct Setting {
  std::uint32_t block_size_bytes = 0;
  std::uint32_t queue_depth = 0;   // a thread
  std::uint32_t thread_count = 0;  // of the engine

  auto operator<=>(const Setting&) const = default;
  std::uint64_t in_flight_bytes() const {
    return std::uint64_t{block_size_bytes} * queue_depth * thread_count;
  }
};

// True if `a` needs less of the machine: fewer bytes in flight, then fewer threads, then less
// depth.
bool is_smaller(const Setting& a, const Setting& b);

// Returns all combinations, block by block.
std::vector<Setting> grid_of(const std::vector<std::uint32_t>& block_sizes,
                             const std::vector<std::uint32_t>& queue_depths,
                             const std::vector<std::uint32_t>& thread_counts);

// "blocks of 1M, depth 8, 1 thread".
std::string text_of(const Setting& setting);
// "128K", "1M": as the command line takes them; "1000" where no unit divides it.
std::string short_size(std::uint64_t bytes);

}  // namespace spillway::aio_bench
