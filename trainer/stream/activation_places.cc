#include "trainer/stream/activation_places.h"

#include <ATen/Functions.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>
#include "trainer/device/device.h"
#include "trainer/plan/backward_memory.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

namespace spillway::trainer {
namespace {

// Tiles are counted in elements of this many bytes.
constexpr std::uint64_t kElementBytes = 16;
constexpr std::uint64_t kTileElements = kActivationTileBytes / kElementBytes;

std::uint64_t elements_of(std::uint64_t bytes) {
  return (bytes + kElementBytes - 1) / kElementBytes;
}

// All of a contiguous tensor, as bytes.
at::Tensor bytes_of(const at::Tensor& tensor) {
  return tensor.detach().view({tensor.numel()}).view(at::kByte);
}

at::Tensor bytes_at(std::byte* address, std::uint64_t count) {
  return at::from_blob(address, {static_cast<std::int64_t>(count)},
                       at::TensorOptions().dtype(at::kByte));
}

// Bytes [begin, end) of a tile, of an activation of `bytes`.
struct ByteRange {
  std::int64_t begin;
  std::int64_t count;
};
ByteRange range_of(swapper::TileId tile, std::uint64_t bytes) {
  const std::uint64_t begin = tile * kActivationTileBytes;
  return {static_cast<std::int64_t>(begin),
          static_cast<std::int64_t>(std::min(kActivationTileBytes, bytes - begin))};
}

}  // namespace

ActivationPlaces::ActivationPlaces(ModelStates& states)
    : states_(&states),
      kind_(states.device_kind()),
      on_nvme_(states.config().activations.device == OffloadDevice::kNvme) {}

ActivationPlaces::~ActivationPlaces() {
  drop_reads();
  for (UnderWay& write : writes_) static_cast<void>(write.transfer.wait());
}

ActivationPlaces::PlaceId ActivationPlaces::take_place(std::uint64_t bytes) {
  if (const auto found = free_.find(bytes); found != free_.end()) {
    const PlaceId place = found->second;
    free_.erase(found);
    return place;
  }
  places_.push_back(make_place(bytes));
  return places_.size() - 1;
}

ActivationPlaces::Place ActivationPlaces::make_place(std::uint64_t bytes) {
  Place place;
  place.bytes = bytes;
  if (on_nvme_) {
    const swapper::Layout layout({{"activation", kElementBytes}});
    place.store =
        &states_->tiers().add_store("activation-" + std::to_string(places_.size()), layout,
                                    swapper::cut_into_tiles({.total_elements = elements_of(bytes),
                                                             .tile_elements = kTileElements}),
                                    states_->config().activations.nvme_path);
    if (pool_ == nullptr) {
      pool_ = &states_->tiers().add_pool("activations", kActivationTileBytes,
                                         activation_buffers(bytes));
    }
    return place;
  }
  pinned_pool::SlabOptions options;
  options.size_bytes = bytes;
  options.cuda = kind_.register_host();
  place.slab = value_or_throw(pinned_pool::Slab::create(options));
  return place;
}

void ActivationPlaces::give_back(PlaceId id) noexcept {
  const auto of_place = [&](const UnderWay& one) { return one.place == id; };
  if (std::any_of(reads_.begin(), reads_.end(), of_place)) drop_reads();
  for (UnderWay& write : writes_) {
    if (of_place(write)) static_cast<void>(write.transfer.wait());
  }
  std::erase_if(writes_, of_place);
  free_.emplace(places_[id].bytes, id);
}

pinned_pool::Lease ActivationPlaces::wait_for(swapper::Transfer transfer) {
  const TraceSpan span(states_->trace(), Lane::kWait, "wait for activations");
  const auto start = std::chrono::steady_clock::now();
  auto lease = transfer.wait();
  wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return value_or_throw(std::move(lease));
}

// Free, or of the oldest write; else of a read ahead that turned out to be too early.
pinned_pool::Lease ActivationPlaces::take_buffer() {
  if (pinned_pool::Lease lease = pool_->try_acquire()) return lease;
  if (writes_.empty()) {
    drop_reads();
    return pool_->acquire();
  }
  // Off the list first: when its wait fails, nothing must wait for it again.
  UnderWay oldest = std::move(writes_.front());
  writes_.pop_front();
  return wait_for(std::move(oldest.transfer));
}

void ActivationPlaces::store(PlaceId id, const at::Tensor& activation) {
  Place& place = places_[id];
  place.next_read = 0;
  const at::Tensor bytes = bytes_of(activation);
  if (!on_nvme_) {
    kind_.copy(bytes_at(place.slab->data(), place.bytes), bytes);
    return;
  }
  for (swapper::TileId tile = 0; tile < place.store->tile_count(); ++tile) {
    const ByteRange range = range_of(tile, place.bytes);
    pinned_pool::Lease lease = take_buffer();
    kind_.copy(bytes_at(lease.data(), range.count), bytes.narrow(0, range.begin, range.count));
    writes_.push_back(
        {id, place.store->write(tile, place.store->layout().all(), std::move(lease))});
  }
}

void ActivationPlaces::finish_writes(PlaceId id) {
  const auto is_its = [&](const UnderWay& write) { return write.place == id; };
  auto found = std::find_if(writes_.begin(), writes_.end(), is_its);
  while (found != writes_.end()) {
    UnderWay write = std::move(*found);
    writes_.erase(found);
    wait_for(std::move(write.transfer));
    found = std::find_if(writes_.begin(), writes_.end(), is_its);
  }
}

bool ActivationPlaces::read_ahead(PlaceId id) {
  Place& place = places_[id];
  const bool writing = std::any_of(writes_.begin(), writes_.end(), [&](const UnderWay& write) {
    return write.place == id && !write.transfer.done();
  });
  if (writing) return false;
  finish_writes(id);
  while (place.next_read < place.store->tile_count()) {
    pinned_pool::Lease lease = pool_->try_acquire();
    if (!lease) return false;
    reads_.push_back(
        {id, place.store->read(place.next_read++, place.store->layout().all(), std::move(lease))});
  }
  return true;
}

void ActivationPlaces::drop_reads() {
  // An abandoned read ends by itself and gives its buffer back; waiting keeps the pool predictable.
  for (UnderWay& read : reads_) {
    static_cast<void>(read.transfer.wait());
    places_[read.place].next_read = 0;
  }
  reads_.clear();
}

void ActivationPlaces::load(PlaceId id, at::Tensor activation) {
  Place& place = places_[id];
  const at::Tensor bytes = bytes_of(activation);
  if (!on_nvme_) {
    kind_.copy(bytes, bytes_at(place.slab->data(), place.bytes));
    return;
  }
  if (!reads_.empty() && reads_.front().place != id) drop_reads();  // another one was expected
  finish_writes(id);
  for (swapper::TileId tile = 0; tile < place.store->tile_count(); ++tile) {
    if (place.next_read == tile) {  // not in flight yet
      reads_.push_back({id, place.store->read(tile, place.store->layout().all(), take_buffer())});
      ++place.next_read;
    }
    UnderWay read = std::move(reads_.front());
    reads_.pop_front();
    const pinned_pool::Lease lease = wait_for(std::move(read.transfer));
    const ByteRange range = range_of(tile, place.bytes);
    kind_.copy(bytes.narrow(0, range.begin, range.count), bytes_at(lease.data(), range.count));
    read_ahead(id);
  }
  place.next_read = 0;
}

std::byte* ActivationPlaces::memory(PlaceId place) const { return places_[place].slab->data(); }

std::uint64_t ActivationPlaces::memory_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const Place& place : places_) bytes += place.slab ? place.slab->size_bytes() : 0;
  return bytes;
}

std::uint64_t ActivationPlaces::storage_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const Place& place : places_) bytes += place.store ? place.store->storage_bytes() : 0;
  return bytes;
}

}  // namespace spillway::trainer
