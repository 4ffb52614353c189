#include "trainer/checkpoint/shard_job.h"
#include "trainer/plan/checkpoint_planes.h"

#include <spillway/aio/buffer.h>
#include <spillway/aio/check.h>
#include <spillway/swapper/block_checksum.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <thread>
#include <utility>

namespace spillway::trainer {
namespace {

// Read at a time by a copy beside training: one request in flight, so that the drive has room for
// the others.
constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

std::string padded(std::uint32_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < 4) digits.insert(0, 4 - digits.size(), '0');
  return digits;
}

std::size_t round_up(std::size_t bytes, std::size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

// Bytes of a sealed tile's plane, from one of its blocks on, with its checksums. The plane begins
// at `start` of the segment.
void compare(const swapper::SealedTile& tile, std::uint32_t plane, std::uint64_t start,
             std::size_t first_byte, std::span<const std::byte> bytes) {
  const swapper::SealedTile::PlaneSums& sums = tile.planes[plane];
  for (std::size_t at = 0; at < bytes.size(); at += sums.block_bytes) {
    const std::size_t block = (first_byte + at) / sums.block_bytes;
    const swapper::BlockIdentity identity{
        .tile = tile.tile, .plane = plane, .generation = tile.generation, .block = block};
    const std::size_t count = std::min(sums.block_bytes, bytes.size() - at);
    if (swapper::block_checksum(identity, bytes.subspan(at, count)) == sums.values[block]) continue;
    throw Failure(make_error(ErrorKind::kCorrupt, "copy states", tile.segment->path(),
                             "the block at " + std::to_string(start + first_byte + at) + " (tile " +
                                 std::to_string(tile.tile) + ", plane " + std::to_string(plane) +
                                 ") is not what was written")
                      .value());
  }
}

// Whole checksum blocks and whole pages.
std::size_t copy_step(std::size_t block_bytes) {
  return round_up(std::max(kCopyBytes, block_bytes),
                  std::lcm(block_bytes, swapper::kPlaneAlignment));
}

}  // namespace

std::string rank_name(std::uint32_t rank) { return "rank-" + padded(rank); }

ShardJob::ShardJob(ModelStates& states, std::filesystem::path directory, CheckpointFiles& files)
    : directory_(std::move(directory)),
      name_(rank_name(states.communicator().rank())),
      files_(files),
      tiers_(states.tiers()),
      weight_layout_(states.tiers().weights().layout()),
      optimizer_layout_(states.tiers().optimizer().layout()) {
  index_.rank = states.communicator().rank();
}

void ShardJob::take(ModelStates& states, RankAgreement& ranks) {
  seal(states);
  std::vector<swapper::Item> items;
  sort_parts(states, &items);
  link_segments();
  copy_memory(states, items, ranks);
}

// Where there is no room for two generations, the one is copied before it changes.
void ShardJob::seal(ModelStates& states) {
  std::vector<bool> weights_change;
  for (const ModelStates::UnitState& unit : states.units()) {
    for (const TileSpan& span : unit.partition.tiles()) {
      weights_change.push_back(span.section == kTrainable);
    }
  }
  swapper::Tier& optimizer = states.tiers().optimizer();
  const std::vector<bool> all(optimizer.tile_count(), true);
  for (auto sealed : {states.tiers().weights().seal(weights_change), optimizer.seal(all)}) {
    if (sealed) continue;
    if (sealed.error().kind != ErrorKind::kNoSpace) throw Failure(sealed.error());
    notes_.push_back(
        "training waits while states are copied, for there is no room for two "
        "generations of them: " +
        sealed.error().message());
  }
}

void ShardJob::sort_parts(ModelStates& states, std::vector<swapper::Item>* items) {
  StateItems list = list_state_items(states, swapper::Access::kRead);
  index_.extents = std::move(list.extents);
  std::map<const swapper::SealedSegment*, std::size_t> numbers;  // in segments_
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    std::uint32_t first_plane = 0;
    for (std::size_t part = 0; part < list.items[i].size(); ++part) {
      const swapper::Part& source = list.items[i][part];
      if (auto tile = source.tier->sealed(source.tile)) {
        SPILLWAY_CHECK(!tile->planes.empty(), "states are stored with checksums");
        const auto [known, is_new] = numbers.try_emplace(tile->segment.get(), segments_.size());
        if (is_new) segments_.push_back({.sealed = tile->segment, .file = std::nullopt});
        sealed_.push_back({.extent = i,
                           .first_plane = first_plane,
                           .layout = part == 0 ? &weight_layout_ : &optimizer_layout_,
                           .tile = std::move(*tile),
                           .segment = known->second});
      } else {
        in_memory_.push_back({.extent = i, .first_plane = first_plane});
        items->push_back({source});
      }
      first_plane += source.planes.count;
    }
    index_.extents[i].planes.resize(first_plane);
  }
}

void ShardJob::link_segments() {
  for (Segment& segment : segments_) {
    const std::string name = next_name();
    auto linked = files_.link(*segment.sealed, directory_ / name);
    if (!linked && linked.error().kind == ErrorKind::kUnsupported) return;  // nor the others
    value_or_throw(std::move(linked));
    segment.file = add_file({.name = name,
                             .size_bytes = segment.sealed->size_bytes(),
                             .checksums = {},
                             .of_planes = true});
  }
}

void ShardJob::copy_memory(ModelStates& states, const std::vector<swapper::Item>& items,
                           RankAgreement& ranks) {
  // All ranks meet as often, however many of their tiles lie in memory.
  std::size_t met = 0;
  const auto meet_until = [&](std::size_t extent) {
    for (; met < extent; ++met) ranks.meet_after_tile();
  };
  const auto append = [&](std::size_t number,
                          std::span<const swapper::PartView> parts) -> Result<void> {
    if (states.stop_requested()) throw Interrupted();
    const swapper::Layout& layout = items[number].front().tier->layout();
    const MemoryPart& part = in_memory_[number];
    for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
      auto offset =
          writer().append({parts[0].plane(plane), layout.plane_bytes(plane, parts[0].elements())});
      if (!offset) return tl::unexpected(offset.error());
      index_.extents[part.extent].planes[part.first_plane + plane] = {.file = writer_file_,
                                                                      .offset = *offset};
    }
    meet_until(part.extent);
    return {};
  };
  value_or_throw(swapper::TileStream::run(items, append));
  meet_until(index_.extents.size());
}

void ShardJob::complete() {
  training_read_bytes_ = tiers_.nvme_read_bytes();
  for (Segment& segment : segments_) {
    if (cancelled_) throw Interrupted();
    if (segment.file) {
      value_or_throw(files_.sync(*segment.sealed));
    } else {
      clone(segment);
    }
  }
  for (const SealedPart& part : sealed_) {
    const Segment& segment = segments_[part.segment];
    if (segment.file) {
      refer(part, *segment.file);
    } else {
      copy(part);
    }
  }
  if (writer_) index_.files[writer_file_] = value_or_throw(writer_->finish());
  value_or_throw(write_file(files_, directory_ / (name_ + ".json"), to_text(index_)));
}

void ShardJob::clone(Segment& segment) {
  const std::string name = next_name();
  auto cloned = files_.clone(*segment.sealed, directory_ / name);
  if (!cloned && cloned.error().kind == ErrorKind::kUnsupported) return;
  value_or_throw(std::move(cloned));
  segment.file = add_file({.name = name,
                           .size_bytes = segment.sealed->size_bytes(),
                           .checksums = {},
                           .of_planes = true});
}

// Says that the planes are in the file as the store wrote them.
void ShardJob::refer(const SealedPart& part, std::uint32_t file) {
  CheckpointExtent& extent = index_.extents[part.extent];
  extent.checksums.resize(extent.planes.size());
  index_.plane_checksum = swapper::kBlockChecksumName;
  for (std::uint32_t plane = 0; plane < part.layout->plane_count(); ++plane) {
    const swapper::SealedTile::PlaneSums& sums = part.tile.planes[plane];
    extent.planes[part.first_plane + plane] = {
        .file = file,
        .offset = part.tile.offset + part.layout->plane_offset(plane, extent.elements)};
    extent.checksums[part.first_plane + plane] = {.tile = part.tile.tile,
                                                  .plane = plane,
                                                  .generation = part.tile.generation,
                                                  .block_bytes = sums.block_bytes,
                                                  .values = sums.values};
  }
}

void ShardJob::copy(const SealedPart& part) {
  CheckpointExtent& extent = index_.extents[part.extent];
  for (std::uint32_t plane = 0; plane < part.layout->plane_count(); ++plane) {
    const std::uint64_t start =
        part.tile.offset + part.layout->plane_offset(plane, extent.elements);
    const std::size_t size_bytes = part.layout->plane_bytes(plane, extent.elements);
    const std::size_t step = copy_step(part.tile.planes[plane].block_bytes);
    const aio::Buffer buffer =
        aio::Buffer::allocate(std::min(step, round_up(size_bytes, swapper::kPlaneAlignment)));
    for (std::size_t done = 0; done < size_bytes; done += step) {
      const std::size_t count = std::min(step, size_bytes - done);
      read(*part.tile.segment, start + done,
           {buffer.data(), round_up(count, swapper::kPlaneAlignment)});
      const std::span bytes(buffer.data(), count);
      compare(part.tile, plane, start, done, bytes);
      const std::uint64_t offset = value_or_throw(writer().append(bytes));
      if (done == 0) extent.planes[part.first_plane + plane] = {writer_file_, offset};
    }
  }
}

void ShardJob::read(const swapper::SealedSegment& segment, std::uint64_t offset,
                    std::span<std::byte> to) {
  leave_room_for_training();
  if (cancelled_) throw Interrupted();
  value_or_throw(segment.read(offset, to));
  read_bytes_ += to.size();
}

void ShardJob::leave_room_for_training() const {
  constexpr std::uint64_t kShare = 12;  // of what training reads, one in so many
  constexpr std::chrono::milliseconds kLookEvery{2};
  constexpr std::chrono::seconds kMostWait{1};  // where training reads next to nothing
  const auto start = std::chrono::steady_clock::now();
  while (!hurried_ && !cancelled_ && std::chrono::steady_clock::now() - start < kMostWait &&
         tiers_.nvme_read_bytes() - training_read_bytes_ < kShare * read_bytes_) {
    std::this_thread::sleep_for(kLookEvery);
  }
}

std::uint32_t ShardJob::add_file(ShardFile file) {
  index_.files.push_back(std::move(file));
  return static_cast<std::uint32_t>(index_.files.size() - 1);
}

std::string ShardJob::next_name() {
  return name_ + "-" + padded(static_cast<std::uint32_t>(index_.files.size())) + ".bin";
}

// The file of what is copied, made when there is something to copy.
ShardWriter& ShardJob::writer() {
  if (writer_) return *writer_;
  writer_.emplace(value_or_throw(files_.create(directory_ / (name_ + ".bin"))), name_ + ".bin");
  writer_file_ = add_file({});
  return *writer_;
}

}  // namespace spillway::trainer
