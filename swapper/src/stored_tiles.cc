#include "stored_tiles.h"

#include <spillway/aio/check.h>
#include <algorithm>
#include <cstring>
#include <utility>

namespace spillway::swapper {

// A request on a file; `finish` verifies the bytes of a read.
class StoredTiles::FileTransfer final : public Transfer::Impl {
 public:
  FileTransfer(std::shared_ptr<StoredTiles> store, std::size_t place, PlaneRange planes,
               aio::Direction direction, pinned_pool::Lease lease,
               aio::Priority priority = aio::Priority::kNormal, Verify verify = Verify::kNo)
      : store_(std::move(store)),
        stored_(store_->places_[place]),
        under_way_(store_->transfers_[place]),
        place_(place),
        planes_(planes),
        direction_(direction),
        verify_(verify),
        pending_(store_->files_->start(direction, store_->region(stored_, planes),
                                       std::move(lease).release(), priority)) {
    ++under_way_;
  }
  ~FileTransfer() override { --under_way_; }

  bool done() const noexcept override { return !usable() || pending_->done(); }
  void expedite() noexcept override { pending_->expedite(); }
  void cancel() noexcept override { pending_->cancel(); }
  void when_done(std::function<void()> function) override {
    if (!usable()) return function();  // nobody would call it
    pending_->when_done(std::move(function));
  }
  std::optional<std::chrono::steady_clock::time_point> ended() const noexcept override {
    if (!usable()) return std::nullopt;
    return pending_->ended();
  }

  Result<pinned_pool::Lease> finish(std::chrono::steady_clock::time_point deadline) override {
    if (!usable()) return tl::unexpected(store_->files_->owner().error("wait"));
    std::optional<aio::Completion> completion = pending_->wait_until(deadline);
    if (!completion) return overrun();
    if (!completion->transferred) return failed(std::move(completion->transferred.error()));
    if (verify_ == Verify::kYes) {
      auto verified = store_->verify(place_, planes_, {.first = 0, .count = stored_.at.elements},
                                     completion->buffer.data());
      if (!verified) return tl::unexpected(std::move(verified.error()));
    }
    return pinned_pool::Lease(std::move(completion->buffer));
  }

 private:
  bool usable() const noexcept { return store_->files_->owner().is_here(); }

  tl::unexpected<Error> overrun() {
    store_->files_->overrun();
    const SegmentFiles::Region region = store_->region(stored_, planes_);
    return tl::unexpected(
        Error{.kind = ErrorKind::kDeadline,
              .operation = operation(),
              .path = store_->files_->path(region.segment),
              .offset = region.offset,
              .wanted = region.size_bytes,
              .detail = store_->describe(stored_, planes_) + ": not complete in the time allowed"});
  }

  tl::unexpected<Error> failed(Error error) {
    // Which plane: the one that holds the first byte that was not moved.
    const std::uint64_t at = error.offset + error.got - stored_.at.offset;
    PlaneRange failed = planes_;
    while (failed.count > 1 &&
           at >= store_->layout_.plane_offset(failed.first + 1, stored_.at.elements)) {
      ++failed.first;
      --failed.count;
    }
    failed.count = 1;
    const std::string what = store_->describe(stored_, failed);
    error.detail = error.detail.empty() ? what : what + ": " + error.detail;
    return tl::unexpected(std::move(error));
  }

  const char* operation() const { return direction_ == aio::Direction::kRead ? "read" : "write"; }

  const std::shared_ptr<StoredTiles> store_;
  const Stored& stored_;
  std::atomic<std::uint32_t>& under_way_;
  const std::size_t place_;
  const PlaneRange planes_;
  const aio::Direction direction_;
  const Verify verify_;
  const std::shared_ptr<SegmentFiles::Pending> pending_;
};

StoredTiles::StoredTiles(const Layout& layout, std::shared_ptr<SegmentFiles> files, bool checksums)
    : layout_(layout), files_(std::move(files)), checksums_(checksums) {}

std::size_t StoredTiles::add(const PlacedTile& at, bool hollow) {
  Stored stored{.at = at,
                .owner = {},
                .checksums = TileChecksums(layout_, at.elements),
                .written = std::vector<std::uint8_t>(layout_.plane_count())};
  if (free_.empty()) {
    places_.push_back(std::move(stored));
    transfers_.emplace_back(0);
    spaces_.emplace_back().hollow = hollow;
    return places_.size() - 1;
  }
  const std::size_t place = free_.back();
  free_.pop_back();
  places_[place] = std::move(stored);
  spaces_[place].hollow = hollow;
  return place;
}

void StoredTiles::remove(std::size_t place) {
  SPILLWAY_CHECK(!under_way(place), "a place that is removed is at rest");
  places_[place] = {.at = {}, .owner = {}, .checksums = TileChecksums(layout_, 0), .written = {}};
  free_.push_back(place);
}

void StoredTiles::clear(std::size_t place) noexcept {
  std::ranges::fill(places_[place].written, std::uint8_t{0});
}

bool StoredTiles::release_space(std::size_t place) noexcept {
  Space& space = spaces_[place];
  const MutexLock guard(space.mutex);
  if (!space.hollow) space.hollow = files_->punch(region(place));
  return space.hollow;
}

Result<void> StoredTiles::take_space(std::size_t place) {
  Space& space = spaces_[place];
  if (!space.hollow) return {};
  const MutexLock guard(space.mutex);
  if (!space.hollow) return {};
  auto taken = files_->refill(region(place));
  if (taken) {
    space.hollow = false;
    return taken;
  }
  taken.error().detail = "tile " + std::to_string(places_[place].owner.tile) +
                         " was freed, and its space is to be taken again: " + taken.error().detail;
  return taken;
}

bool StoredTiles::written(std::size_t place) const noexcept {
  return std::ranges::find_if(places_[place].written, [](auto w) { return w != 0; }) !=
         places_[place].written.end();
}

bool StoredTiles::whole(std::size_t place) const noexcept {
  return !places_[place].written.empty() &&
         std::ranges::find(places_[place].written, 0) == places_[place].written.end();
}

TileStore::Place StoredTiles::place(std::size_t place) const {
  const Stored& stored = places_[place];
  return {files_->path(stored.at.segment), stored.at.offset, stored.owner.generation};
}

std::uint64_t StoredTiles::memory_bytes() const noexcept {
  std::uint64_t bytes = places_.size() * sizeof(Stored);
  for (const Stored& stored : places_) {
    bytes += stored.checksums.memory_bytes() + stored.written.capacity();
  }
  return bytes;
}

void StoredTiles::start_generation(std::size_t place, Owner owner) { places_[place].owner = owner; }

void StoredTiles::restore(std::size_t place, Owner owner, const Sums& sums) {
  Stored& stored = places_[place];
  stored.owner = owner;
  for (std::uint32_t plane = 0; plane < layout_.plane_count(); ++plane) {
    stored.checksums.adopt(plane, sums[plane]);
    stored.written[plane] = 1;
  }
}

Transfer StoredTiles::read(std::size_t place, PlaneRange planes, pinned_pool::Lease lease,
                           aio::Priority priority, Verify verify) {
  const Stored& stored = places_[place];
  const aio::OwnerProcess& owner = files_->owner();
  if (!owner.is_here()) {
    return Transfer::completed(
        tl::unexpected(owner.error("read", files_->path(stored.at.segment))));
  }
  for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
    if (stored.written[plane] != 0) continue;
    return Transfer::completed(make_error(
        ErrorKind::kInvalid, "read", files_->path(stored.at.segment),
        describe(stored, {.first = plane, .count = 1}) + ": was never written, or was freed"));
  }
  return Transfer(std::make_unique<FileTransfer>(shared_from_this(), place, planes,
                                                 aio::Direction::kRead, std::move(lease), priority,
                                                 verify));
}

Transfer StoredTiles::write(std::size_t place, PlaneRange planes, pinned_pool::Lease lease,
                            const Sums* sums) {
  const aio::OwnerProcess& owner = files_->owner();
  if (!owner.is_here()) {
    return Transfer::completed(
        tl::unexpected(owner.error("write", files_->path(places_[place].at.segment))));
  }
  if (auto taken = take_space(place); !taken) {
    return Transfer::completed(tl::unexpected(std::move(taken.error())));
  }
  record(places_[place], planes, lease.data(), sums);
  return Transfer(std::make_unique<FileTransfer>(shared_from_this(), place, planes,
                                                 aio::Direction::kWrite, std::move(lease)));
}

SegmentFiles::Region StoredTiles::region(const Stored& stored, PlaneRange planes) const {
  const std::uint64_t elements = stored.at.elements;
  return {.segment = stored.at.segment,
          .offset = stored.at.offset + layout_.plane_offset(planes.first, elements),
          .size_bytes = layout_.range_bytes(planes, elements)};
}

std::string StoredTiles::describe(const Stored& stored, PlaneRange planes) const {
  std::string text = "tile " + std::to_string(stored.owner.tile) + ", plane " +
                     layout_.planes()[planes.first].name;
  if (planes.count > 1) text += " to " + layout_.planes()[planes.first + planes.count - 1].name;
  return text;
}

void StoredTiles::record(Stored& stored, PlaneRange planes, std::byte* data, const Sums* sums) {
  for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
    const std::size_t bytes = layout_.plane_bytes(plane, stored.at.elements);
    const std::size_t padded = layout_.padded_plane_bytes(plane, stored.at.elements);
    if (sums != nullptr) {
      stored.checksums.adopt(plane, (*sums)[plane - planes.first]);
    } else if (checksums_) {
      stored.checksums.record({stored.owner.tile, plane, stored.owner.generation}, data);
    }
    // The padding is in no checksum. It is zeroed so that nothing a buffer held before, which may
    // be of another file or user, ends up on the disk.
    std::memset(data + bytes, 0, padded - bytes);
    stored.written[plane] = 1;
    data += padded;
  }
}

Result<void> StoredTiles::verify(std::size_t place, PlaneRange planes, ElementRange range,
                                 const std::byte* data) const {
  if (!checksums_) return {};
  const Stored& stored = places_[place];
  for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
    const std::byte* const start =
        data + layout_.plane_offset(plane, stored.at.elements, planes.first);
    const auto block =
        stored.checksums.first_mismatch({stored.owner.tile, plane, stored.owner.generation}, start,
                                        stored.checksums.blocks(plane, range));
    if (block) return tl::unexpected(mismatch(stored, plane, *block));
  }
  return {};
}

Result<void> StoredTiles::verify(std::size_t place, PlaneRange planes, ElementRange range,
                                 std::span<const BlockHash> hashes) const {
  if (!checksums_) return {};
  const Stored& stored = places_[place];
  for (std::uint32_t i = 0; i < planes.count; ++i) {
    const std::uint32_t plane = planes.first + i;
    const std::size_t block = stored.checksums.blocks(plane, range).first;
    const PlaneIdentity identity{stored.owner.tile, plane, stored.owner.generation};
    if (stored.checksums.value_of(identity, hashes[i], block) !=
        stored.checksums.value(plane, block)) {
      return tl::unexpected(mismatch(stored, plane, block));
    }
  }
  return {};
}

Error StoredTiles::mismatch(const Stored& stored, std::uint32_t plane, std::size_t block) const {
  const std::uint64_t offset = stored.at.offset + layout_.plane_offset(plane, stored.at.elements) +
                               block * stored.checksums.block_bytes(plane);
  return {.kind = ErrorKind::kCorrupt,
          .operation = "read",
          .path = files_->path(stored.at.segment),
          .offset = offset,
          .detail = describe(stored, {.first = plane, .count = 1}) + ", block " +
                    std::to_string(block) + " at offset " + std::to_string(offset) +
                    ": checksum mismatch, the bytes are not the ones written"};
}

}  // namespace spillway::swapper
