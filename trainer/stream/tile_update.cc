#include "trainer/stream/tile_update.h"

#include <spillway/aio/check.h>
#include <spillway/aio/mutex.h>
#include "trainer/plan/optimizer_layout.h"

#include <algorithm>
#include <utility>

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kElementsPerTask = swapper::PartView::kRangeElements;

UpdatePlanes planes_of(const TileUpdate& update, std::span<const swapper::PartView> parts) {
  const std::uint32_t count = optimizer_layout(update.format).plane_count();
  std::vector<std::byte*> states(count);
  for (std::uint32_t i = 0; i < count; ++i) states[i] = parts[1].plane(i);
  UpdatePlanes planes = update_planes(update.format, parts[0].plane(0), states);
  planes.first_element = update.first_element;
  planes.pieces = update.pieces;
  return planes;
}

Result<void> update_hashed(const UpdatePlanes& planes, std::span<const swapper::PartView> parts,
                           std::uint64_t first, std::uint64_t count) {
  UpdateHashes before, after;
  update_range({}, planes, first, count, before, after);
  const swapper::ElementRange range{.first = first, .count = count};
  const auto of_part = [&](std::size_t i, const UpdateHashes& hashes) {
    return i == 0 ? weight_hashes(hashes) : state_hashes(hashes, planes.format);
  };
  // All of it first: nothing is recorded of what was made of damaged bytes.
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].takes_hashes()) continue;
    if (auto verified = parts[i].verify(range, of_part(i, before)); !verified) return verified;
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].takes_hashes()) {
      parts[i].record(range, of_part(i, after));
    } else {
      parts[i].record(first, count);
    }
  }
  return {};
}

// Verifies and hashes in the one pass of the update where the part takes that, else while the range
// is in the cache.
Result<void> update_verified(const UpdatePlanes& planes, std::span<const swapper::PartView> parts,
                             std::uint64_t first, std::uint64_t count) {
  const auto takes_hashes = [](const swapper::PartView& part) { return part.takes_hashes(); };
  for (const swapper::PartView& part : parts) {
    if (takes_hashes(part)) continue;
    if (auto verified = part.verify(first, count); !verified) return verified;
  }
  if (std::ranges::any_of(parts, takes_hashes)) return update_hashed(planes, parts, first, count);
  update_range({}, planes, first, count);
  for (const swapper::PartView& part : parts) part.record(first, count);
  return {};
}

struct Outcome {
  Mutex mutex;
  Result<void> error SPILLWAY_GUARDED_BY(mutex);
};

}  // namespace

void run_in_order(std::uint64_t count, const std::function<void(std::uint64_t)>& task) {
  for (std::uint64_t i = 0; i < count; ++i) task(i);
}

Result<void> update_tile(const TileUpdate& update, std::span<const swapper::PartView> parts,
                         const Executor& run) {
  SPILLWAY_CHECK(parts.size() >= 2 && !update.pieces.empty(), "a tile has weights and states");
  const std::uint64_t elements = parts[0].elements();
  const UpdatePlanes planes = planes_of(update, parts);
  Outcome outcome;
  run((elements + kElementsPerTask - 1) / kElementsPerTask, [&](std::uint64_t task) {
    const std::uint64_t first = task * kElementsPerTask;
    auto updated =
        update_verified(planes, parts, first, std::min(kElementsPerTask, elements - first));
    if (updated) return;
    const MutexLock lock(outcome.mutex);
    outcome.error = std::move(updated);
  });
  const MutexLock lock(outcome.mutex);
  return std::move(outcome.error);
}

}  // namespace spillway::trainer
