#include <spillway/aio/check.h>
#include <spillway/swapper/layout.h>
#include <limits>
#include <set>
#include <utility>

namespace spillway::swapper {

std::vector<std::uint64_t> cut_into_tiles(const TileCut& cut) {
  SPILLWAY_CHECK(cut.tile_elements > 0, "a tile has at least one element");
  std::vector<std::uint64_t> tiles(cut.total_elements / cut.tile_elements, cut.tile_elements);
  const std::uint64_t rest = cut.total_elements % cut.tile_elements;
  if (rest > 0) tiles.push_back(rest);
  return tiles;
}

Layout::Layout(std::vector<Plane> planes) : planes_(std::move(planes)) {
  SPILLWAY_CHECK(!planes_.empty(), "a layout has at least one plane");
  std::set<std::string> names;
  for (const Plane& plane : planes_) {
    SPILLWAY_CHECK(plane.bytes_per_block > 0, "a plane's block has a size");
    SPILLWAY_CHECK(plane.elements_per_block > 0, "a plane's block holds elements");
    SPILLWAY_CHECK(names.insert(plane.name).second, "plane names are distinct");
  }
}

std::size_t Layout::plane_bytes(std::uint32_t plane, std::uint64_t elements) const {
  SPILLWAY_CHECK(plane < plane_count(), "no such plane");
  const Plane& p = planes_[plane];
  // A last, partly filled block is stored whole: 257 elements with one scale per 256 have 2 scales.
  const std::uint64_t blocks = (elements + p.elements_per_block - 1) / p.elements_per_block;
  return blocks * p.bytes_per_block;
}

std::size_t Layout::padded_plane_bytes(std::uint32_t plane, std::uint64_t elements) const {
  return (plane_bytes(plane, elements) + kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment;
}

std::size_t Layout::plane_offset(std::uint32_t plane, std::uint64_t elements,
                                 std::uint32_t first) const {
  SPILLWAY_CHECK(first <= plane, "the plane lies before the first one of the range");
  return range_bytes({.first = first, .count = plane - first}, elements);
}

std::size_t Layout::range_bytes(PlaneRange range, std::uint64_t elements) const {
  SPILLWAY_CHECK(range.first <= plane_count() && range.count <= plane_count() - range.first,
                 "the range exceeds the planes");
  std::size_t bytes = 0;
  for (std::uint32_t plane = range.first; plane < range.first + range.count; ++plane) {
    bytes += padded_plane_bytes(plane, elements);
  }
  return bytes;
}

std::optional<std::uint64_t> Layout::bytes_of_tiles(std::span<const std::uint64_t> elements) const {
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
  std::uint64_t sum = 0;
  for (const std::uint64_t count : elements) {
    if (count > kLargest) return std::nullopt;
    for (std::uint32_t plane = 0; plane < plane_count(); ++plane) {
      // Below kLargest, the largest block (4 GiB) and the padding change nothing about 2^64.
      const Plane& p = planes_[plane];
      if (count / p.elements_per_block >= kLargest / p.bytes_per_block) return std::nullopt;
      const std::uint64_t bytes = padded_plane_bytes(plane, count);
      if (bytes > kLargest - sum) return std::nullopt;
      sum += bytes;
    }
  }
  return sum;
}

}  // namespace spillway::swapper
