// Sealing of a FileTileStore's segments: what is written goes to a checkpoint, what is not keeps
// its room in new ones.
#include <spillway/aio/check.h>
#include <algorithm>

#include "file_tile_store.h"

namespace spillway::swapper {

// Sealed segments in which no tile lies any more: what else links to them keeps them. Freed tiles
// may still be counted among their places, until they get another.
void FileTileStore::remove_unused_segments() {
  std::set<std::uint32_t> used;
  std::set<std::uint32_t> of_freed;
  for (const Entry& tile : tiles_) {
    const bool freed = in_sealed(tile.place) && !stored_->written(tile.place);
    (freed ? of_freed : used).insert(stored_->segment(tile.place));
  }
  for (const std::uint32_t segment : of_freed) {
    if (!used.contains(segment)) stored_->files().drop(segment);
  }
  used.merge(of_freed);
  std::set<std::uint32_t> unused;
  for (std::size_t place = 0; place < stored_->place_count(); ++place) {
    const std::uint32_t segment = stored_->segment(place);
    if (stored_->elements(place) == 0 || used.contains(segment) || !in_sealed(place)) continue;
    stored_->remove(place);
    unused.insert(segment);
  }
  const std::vector<std::uint32_t> segments(unused.begin(), unused.end());
  stored_->files().remove(segments);
}

FileTileStore::Sealing FileTileStore::plan_sealing(const std::vector<bool>& rewritten) const {
  Sealing sealing;
  for (const Entry& tile : tiles_) {
    if (stored_->written(tile.place) && !in_sealed(tile.place)) {
      sealing.segments.insert(stored_->segment(tile.place));
    }
  }
  const auto will_seal = [&](std::size_t place) {
    return sealing.segments.contains(stored_->segment(place));
  };
  for (TileId tile = 0; tile < tiles_.size(); ++tile) {
    const Entry& tile_entry = tiles_[tile];
    const bool lost = tile_entry.reserved && will_seal(*tile_entry.reserved);
    if (lost) sealing.empty.push_back(*tile_entry.reserved);
    const bool empty = !stored_->written(tile_entry.place);
    if (empty && will_seal(tile_entry.place)) sealing.empty.push_back(tile_entry.place);
    const bool stays = !will_seal(tile_entry.place) && !in_sealed(tile_entry.place);
    const bool has_room = stays || (tile_entry.reserved && !lost);
    if (has_room || (!empty && !rewritten[tile])) continue;
    if (empty && (stored_->hollow(tile_entry.place) || in_sealed(tile_entry.place))) {
      sealing.freed.push_back(tile);
      sealing.freed_elements.push_back(tile_entry.elements);
      continue;
    }
    sealing.movers.push_back(tile);
    sealing.elements.push_back(tile_entry.elements);
  }
  const MutexLock guard(spare_mutex_);
  for (const auto& [elements, places] : spare_) {
    for (const std::size_t place : places) {
      if (!will_seal(place)) continue;
      sealing.empty.push_back(place);
      sealing.elements.push_back(elements);
    }
  }
  return sealing;
}

// Gives what the segments hold no more a place elsewhere.
void FileTileStore::move_out(const Sealing& sealing, const NewPlaces& made) {
  const MutexLock guard(spare_mutex_);
  for (auto& [elements, places] : spare_) {
    std::erase_if(places, [&](std::size_t place) {
      return sealing.segments.contains(stored_->segment(place));
    });
  }
  const std::size_t freed = made.places.size() - sealing.freed.size();
  for (std::size_t i = 0; i < made.places.size(); ++i) {
    const std::size_t place = made.places[i];
    if (i >= sealing.movers.size() && i < freed) {
      spare_[stored_->elements(place)].push_back(place);
      continue;
    }
    Entry& tile_entry = tiles_[i < freed ? sealing.movers[i] : sealing.freed[i - freed]];
    if (stored_->written(tile_entry.place)) {
      tile_entry.reserved = place;
    } else {
      stored_->start_generation(place, stored_->owner(tile_entry.place));
      tile_entry.place = place;
    }
  }
  for (Entry& tile : tiles_) {  // of those that are not rewritten after all
    if (tile.reserved && sealing.segments.contains(stored_->segment(*tile.reserved))) {
      tile.reserved.reset();
    }
  }
  for (const std::size_t place : sealing.empty) stored_->remove(place);
  for (const std::uint32_t segment : sealing.segments) sealed_tiles_[segment] = 0;
  for (const Entry& tile : tiles_) {
    const std::uint32_t segment = stored_->segment(tile.place);
    if (sealing.segments.contains(segment)) ++sealed_tiles_[segment];
  }
}

Result<void> FileTileStore::seal(const std::vector<bool>& rewritten) {
  SPILLWAY_CHECK(rewritten.size() == tiles_.size(), "each tile is written again or not");
  if (in_child()) return tl::unexpected(stored_->files().owner().error("seal"));
  for (const Entry& tile : tiles_) {
    SPILLWAY_CHECK(!tile.kept, "nothing is kept when tiles are sealed");
    check_idle(tile);
  }
  // A transfer that was dropped may still move bytes.
  if (auto idle = stored_->files().wait_until_idle(); !idle) return idle;
  remove_unused_segments();
  const Sealing sealing = plan_sealing(rewritten);
  // Before room is made: what holds nothing shall not take any in a file that is kept.
  std::vector<std::size_t> released;
  for (const std::size_t place : sealing.empty) {
    if (!stored_->hollow(place) && stored_->release_space(place)) released.push_back(place);
  }
  auto made = seal_segments(sealing);
  if (!made) {
    // They are written next after all, and shall not find the disk full then. Where this fails, the
    // write that needs the space tries again.
    for (const std::size_t place : released) (void)stored_->take_space(place);
    return tl::unexpected(std::move(made.error()));
  }
  move_out(sealing, *made);
  return {};
}

// Makes the places that are needed instead, first; all or nothing.
Result<FileTileStore::NewPlaces> FileTileStore::seal_segments(const Sealing& sealing) {
  NewPlaces made;
  const auto add = [&](const std::vector<std::uint64_t>& elements, Space space) -> Result<void> {
    if (elements.empty()) return {};
    auto added = add_places(elements, 0, space);
    if (!added) return tl::unexpected(std::move(added.error()));
    made.places.insert(made.places.end(), added->places.begin(), added->places.end());
    made.segments.insert(made.segments.end(), added->segments.begin(), added->segments.end());
    return {};
  };
  auto done = add(sealing.elements, Space::kNow);
  if (done) done = add(sealing.freed_elements, Space::kLater);
  const std::vector<std::uint32_t> segments(sealing.segments.begin(), sealing.segments.end());
  if (done) done = stored_->files().seal(segments);
  if (done) return made;
  for (const std::size_t place : made.places) stored_->remove(place);
  stored_->files().remove(made.segments);
  return tl::unexpected(std::move(done.error()));
}

std::optional<SealedTile> FileTileStore::sealed(TileId tile) const {
  const std::size_t place = present_place(tile);
  if (!in_sealed(place) || !stored_->whole(place)) return std::nullopt;
  const StoredTiles::Owner& owner = stored_->owner(place);
  SealedTile sealed{.segment = stored_->files().sealed(stored_->segment(place)),
                    .offset = stored_->region(place).offset,
                    .tile = owner.tile,
                    .generation = owner.generation,
                    .planes = {}};
  const TileChecksums& checksums = stored_->checksums(place);
  for (std::uint32_t plane = 0; stored_->has_checksums() && plane < layout().plane_count();
       ++plane) {
    sealed.planes.push_back({checksums.block_bytes(plane), checksums.values(plane)});
  }
  return sealed;
}

}  // namespace spillway::swapper
