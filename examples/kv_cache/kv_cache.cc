#include "kv_cache.h"

#include <algorithm>
#include <utility>

using namespace spillway;
using pinned_pool::Lease;

constexpr std::size_t kWritesBehind = 4;
constexpr std::uint64_t kNow = 0;  // needed at once: any other block may go

KvCache::KvCache(swapper::TileStore& store, pinned_pool::Pool& pool,
                 const swapper::Schedule& schedule, const KvCacheOptions& options)
    : store_(store),
      pool_(pool),
      schedule_(schedule),
      options_(options),
      entries_(store.tile_count()) {}

KvCache::Planes KvCache::planes(Entry& entry) const {
  const std::uint64_t elements = store_.tile_elements(0);
  const auto plane = [&](std::uint32_t number) {
    std::byte* start = entry.memory.data() + store_.layout().plane_offset(number, elements);
    return std::span(reinterpret_cast<std::uint16_t*>(start), elements);
  };
  return {.keys = plane(0), .values = plane(1)};
}

Result<KvCache::Planes> KvCache::put(Block block) {
  in_use_ = block;
  auto memory = make_room(kNow);
  if (!memory) return tl::unexpected(memory.error());
  Entry& entry = entries_[block];
  entry.memory = std::move(*memory);
  entry.last_use = ++clock_;
  return planes(entry);
}

Result<KvCache::Planes> KvCache::get(std::size_t position) {
  const Block block = schedule_.uses()[position];
  in_use_ = block;
  next_ = (position + 1) % schedule_.uses().size();
  Entry& entry = entries_[block];
  ++stats_.gets;
  if (entry.memory) {
    ++stats_.hits;
  } else {
    if (entry.incoming.valid()) {
      ++stats_.read_ahead;
    } else {
      auto memory = make_room(kNow);
      if (!memory) return tl::unexpected(memory.error());
      if (auto started = start_read(block, std::move(*memory)); !started) {
        return tl::unexpected(started.error());
      }
    }
    auto read = entry.incoming.wait();
    if (!read) return tl::unexpected(read.error());
    entry.memory = std::move(*read);
  }
  entry.last_use = ++clock_;
  if (auto started = read_ahead(); !started) return tl::unexpected(started.error());
  return planes(entry);
}

// Starts reading what is needed next, as long as that drops nothing that is needed sooner.
Result<void> KvCache::read_ahead() {
  if (options_.policy == Policy::kLru) return {};
  for (const Block block : schedule_.upcoming(next_, options_.blocks_ahead)) {
    Entry& entry = entries_[block];
    if (entry.memory || entry.incoming.valid()) continue;
    auto memory = make_room(distance(block));
    if (!memory) return tl::unexpected(memory.error());
    if (!*memory) return {};
    if (auto started = start_read(block, std::move(*memory)); !started) return started;
  }
  return {};
}

Result<void> KvCache::start_read(Block block, Lease memory) {
  // A read does not overtake the write of the same block: the store leaves that order to us.
  while (std::ranges::count(writes_, block, &Write::block) > 0) {
    if (auto written = finish_oldest_write(); !written) return written;
  }
  entries_[block].incoming = store_.read(block, store_.layout().all(), std::move(memory));
  return {};
}

Result<Lease> KvCache::make_room(std::uint64_t needed) {
  for (;;) {
    if (Lease free = pool_.try_acquire()) return free;
    const auto block = victim(needed);
    if (block && writes_.size() < kWritesBehind) {
      Entry& entry = entries_[*block];
      Lease memory = std::move(entry.memory);
      if (!entry.stored) {
        writes_.push_back({*block, store_.write(*block, store_.layout().all(), std::move(memory))});
        entry.stored = true;
      }
    } else if (!writes_.empty()) {
      if (auto written = finish_oldest_write(); !written) return tl::unexpected(written.error());
    } else {
      return Lease();
    }
  }
}

std::optional<KvCache::Block> KvCache::victim(std::uint64_t needed) const {
  std::vector<Block> candidates;
  for (Block block = 0; block < entries_.size(); ++block) {
    if (entries_[block].memory && block != in_use_) candidates.push_back(block);
  }
  if (candidates.empty()) return {};
  if (options_.policy == Policy::kLru) {
    return *std::ranges::min_element(candidates, {},
                                     [&](Block block) { return entries_[block].last_use; });
  }
  const Block farthest = schedule_.farthest_next_use(next_, candidates);
  if (distance(farthest) <= needed) return {};
  return farthest;
}

Result<void> KvCache::finish_oldest_write() {
  auto written = writes_.front().transfer.wait();
  writes_.pop_front();
  if (!written) return tl::unexpected(written.error());
  return {};
}

std::uint64_t KvCache::distance(Block block) const {
  return schedule_.distance_to_next_use(next_, block);
}

KvCacheStats KvCache::stats() const {
  KvCacheStats stats = stats_;
  stats.read_bytes = store_.stats().read_bytes;
  stats.written_bytes = store_.stats().written_bytes;
  return stats;
}
