#include "placement.h"

#include <spillway/aio/check.h>
#include <spillway/pinned_pool/limits.h>
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

namespace spillway::swapper {
namespace {

using pinned_pool::format_bytes;

// Elements of every place to make: the tiles, then the spare ones.
std::vector<std::uint64_t> with_spare(std::span<const std::uint64_t> tile_elements,
                                      double spare_fraction) {
  std::vector<std::uint64_t> elements(tile_elements.begin(), tile_elements.end());
  std::map<std::uint64_t, std::size_t> count_of_size;
  for (const std::uint64_t size : tile_elements) ++count_of_size[size];
  for (const auto& [size, count] : count_of_size) {
    const auto spare = static_cast<std::size_t>(std::ceil(spare_fraction * double(count)));
    elements.insert(elements.end(), spare, size);
  }
  return elements;
}

class Stripes {
 public:
  Stripes(std::span<const DirectorySpace> directories, std::uint64_t segment_bytes)
      : directories_(directories), segment_bytes_(segment_bytes), stripes_(directories.size()) {
    for (const DirectorySpace& directory : directories) {
      std::uint64_t& device = free_bytes_[directory.device];
      device = std::max({device, directory.free_bytes, directory.device_free_bytes});
      limits_[group_of(directory)] = directory.free_bytes;
    }
  }

  // Saturates: some network filesystems have more than anybody counts.
  std::uint64_t free_bytes() const {
    std::map<std::uint64_t, std::uint64_t> of_device;
    for (const auto& [group, bytes] : limits_) {
      std::uint64_t& sum = of_device[group.first];
      sum = std::min(sum + bytes, free_bytes_.at(group.first));
    }
    std::uint64_t sum = 0;
    for (const auto& [device, bytes] : of_device) {
      if (__builtin_add_overflow(sum, bytes, &sum)) return ~std::uint64_t{0};
    }
    return sum;
  }

  // False when no directory has this much room left.
  bool add(std::uint64_t elements, std::uint64_t size_bytes, Placement& placement) {
    const std::optional<std::size_t> chosen = done_first_with(size_bytes);
    if (!chosen) return false;
    free_bytes_[directories_[*chosen].device] -= size_bytes;
    limits_[group_of(directories_[*chosen])] -= size_bytes;
    Stripe& stripe = stripes_[*chosen];
    stripe.used_bytes += size_bytes;
    // A tile as large as a segment gets a file of its own; the open one goes on being filled.
    const bool own_file = size_bytes >= segment_bytes_;
    if (own_file || !stripe.open_segment) {
      const auto segment = static_cast<std::uint32_t>(placement.segments.size());
      placement.segments.push_back({.directory = *chosen});
      placement.places.push_back({segment, 0, elements});
      placement.segments[segment].size_bytes = size_bytes;
      if (!own_file) stripe.open_segment = segment;
      return true;
    }
    Segment& segment = placement.segments[*stripe.open_segment];
    placement.places.push_back({*stripe.open_segment, segment.size_bytes, elements});
    segment.size_bytes += size_bytes;
    if (segment.size_bytes >= segment_bytes_) stripe.open_segment.reset();
    return true;
  }

 private:
  // Directories that share a limit below their filesystem's: of one project. Those of none share
  // what the filesystem has.
  using Group = std::pair<std::uint64_t, std::uint32_t>;
  static Group group_of(const DirectorySpace& directory) {
    return {directory.device, directory.project};
  }
  struct Stripe {
    std::uint64_t used_bytes = 0;
    std::optional<std::uint32_t> open_segment;
  };

  std::optional<std::size_t> done_first_with(std::uint64_t size_bytes) const {
    std::optional<std::size_t> best;
    double earliest = 0;
    for (std::size_t i = 0; i < directories_.size(); ++i) {
      const DirectorySpace& directory = directories_[i];
      const std::uint64_t room =
          std::min(free_bytes_.at(directory.device), limits_.at(group_of(directory)));
      if (room < size_bytes) continue;
      const double done = double(stripes_[i].used_bytes + size_bytes) / directories_[i].speed;
      if (best && done >= earliest) continue;
      best = i;
      earliest = done;
    }
    return best;
  }

  std::span<const DirectorySpace> directories_;
  std::uint64_t segment_bytes_;
  std::vector<Stripe> stripes_;                        // one a directory
  std::map<std::uint64_t, std::uint64_t> free_bytes_;  // by device
  std::map<Group, std::uint64_t> limits_;
};

tl::unexpected<Error> no_space(std::span<const DirectorySpace> directories, std::size_t tiles,
                               std::size_t spare, std::uint64_t needed, std::uint64_t free) {
  std::string detail = std::to_string(tiles) + " tiles";
  if (spare > 0) detail += " and " + std::to_string(spare) + " spare places";
  detail += " take " + format_bytes(needed) + ", free are " + format_bytes(free) + " (";
  for (std::size_t i = 0; i < directories.size(); ++i) {
    if (i > 0) detail += ", ";
    detail += directories[i].path + ": " + format_bytes(directories[i].free_bytes);
    if (directories[i].project != 0) {
      detail += " in quota project " + std::to_string(directories[i].project);
    }
  }
  detail += needed > free ? "): " + format_bytes(needed - free) + " short"
                          : "): no directory has room for one more whole tile";
  auto error = make_error(ErrorKind::kNoSpace, "place tiles", directories.front().path, detail);
  return error;
}

}  // namespace

Result<Placement> place_tiles(const Layout& layout, std::span<const std::uint64_t> tile_elements,
                              std::span<const DirectorySpace> directories,
                              const PlacementOptions& options) {
  SPILLWAY_CHECK(!directories.empty(), "tiles need a directory");
  const std::vector<std::uint64_t> elements = with_spare(tile_elements, options.spare_fraction);
  const std::optional<std::uint64_t> needed_bytes = layout.bytes_of_tiles(elements);
  if (!needed_bytes) {
    return make_error(ErrorKind::kInvalid, "place tiles", directories.front().path,
                      std::to_string(elements.size()) +
                          " places take more than 9223372036854775807 bytes: no storage has them");
  }
  Stripes stripes(directories, options.segment_bytes);
  const std::uint64_t free_bytes = stripes.free_bytes();

  Placement placement;
  for (const std::uint64_t count : elements) {
    if (*needed_bytes > free_bytes || !stripes.add(count, layout.tile_bytes(count), placement)) {
      return no_space(directories, tile_elements.size(), elements.size() - tile_elements.size(),
                      *needed_bytes, free_bytes);
    }
  }
  return placement;
}

}  // namespace spillway::swapper
