#include <spillway/aio/check.h>
#include <spillway/swapper/cached_tier.h>
#include <algorithm>
#include <cstring>
#include <deque>
#include <numeric>
#include <string>
#include <utility>

#include "placed_tier.h"
#include "ram_tier_within.h"

namespace spillway::swapper {
namespace {

constexpr std::size_t kChunksPerLook = 64;

struct Chunk {
  std::unique_ptr<Tier> ram;
  std::vector<TileId> tiles;  // tile i of `ram` is tiles[i] of the whole
};

class ChunkedCache final : public PlacedTier<CachedTier> {
 public:
  ChunkedCache(std::unique_ptr<Tier> lower, std::vector<Chunk> chunks)
      : lower_(std::move(lower)), chunks_(std::move(chunks)) {
    for (TileId tile = 0; tile < lower_->tile_count(); ++tile) {
      places_.push_back({lower_.get(), tile});
    }
    for (const Chunk& chunk : chunks_) {
      for (TileId i = 0; i < chunk.tiles.size(); ++i) {
        places_[chunk.tiles[i]] = {chunk.ram.get(), i};
      }
    }
    name_ = std::string(lower_->name()) + " cached in cpu";
  }

  const char* name() const noexcept override { return name_.c_str(); }
  const Layout& layout() const noexcept override { return lower_->layout(); }
  TierStats stats() const noexcept override { return lower_->stats(); }
  std::uint64_t memory_bytes() const noexcept override {
    return cached_bytes() + lower_->memory_bytes();
  }
  std::uint64_t storage_bytes() const noexcept override { return lower_->storage_bytes(); }

  std::uint64_t cached_bytes() const noexcept override {
    std::uint64_t bytes = 0;
    for (const Chunk& chunk : chunks_) bytes += chunk.ram->memory_bytes();
    return bytes;
  }
  std::uint64_t cached_elements() const noexcept override {
    std::uint64_t elements = 0;
    for (const Chunk& chunk : chunks_) {
      for (const TileId tile : chunk.tiles) elements += lower_->tile_elements(tile);
    }
    return elements;
  }

  // All of them have a place below.
  Result<void> seal(const std::vector<bool>& rewritten) override { return lower_->seal(rewritten); }

  Result<std::uint64_t> demote(std::uint64_t bytes, pinned_pool::Pool& pool) override {
    if (auto usable = pool.usable(); !usable) return tl::unexpected(std::move(usable.error()));
    std::uint64_t freed = 0;
    while (freed < bytes && !chunks_.empty()) {
      Chunk& chunk = chunks_.back();
      if (auto written = write_out(chunk, pool); !written) {
        return tl::unexpected(std::move(written.error()));
      }
      // Only now, as a whole: until then RAM has the tiles, whatever became of the writes.
      for (const TileId tile : chunk.tiles) places_[tile] = {lower_.get(), tile};
      freed += chunk.ram->memory_bytes();
      chunks_.pop_back();
    }
    return freed;
  }

 private:
  Result<void> write_out(Chunk& chunk, pinned_pool::Pool& pool) {
    std::deque<Transfer> writes;
    Result<void> outcome;
    const auto finish_oldest = [&] {
      auto written = writes.front().wait();
      writes.pop_front();
      if (!written && outcome) outcome = tl::unexpected(std::move(written.error()));
    };
    for (TileId i = 0; outcome && i < chunk.tiles.size(); ++i) {
      pinned_pool::Lease lease = pool.try_acquire();
      while (!lease && !writes.empty()) {
        finish_oldest();
        lease = pool.try_acquire();
      }
      if (!lease) lease = pool.acquire();
      const std::size_t bytes = layout().tile_bytes(chunk.ram->tile_elements(i));
      SPILLWAY_CHECK(bytes <= lease.capacity(), "a tile does not fit into a buffer of the pool");
      std::memcpy(lease.data(), chunk.ram->resident(i, 0), bytes);
      writes.push_back(lower_->write(chunk.tiles[i], layout().all(), std::move(lease)));
    }
    while (!writes.empty()) finish_oldest();
    return outcome;
  }

  const std::unique_ptr<Tier> lower_;
  std::vector<Chunk> chunks_;
  std::string name_;
};

// Deals the cached tiles out to so many chunks, one after the other.
std::vector<std::vector<TileId>> deal(const Tier& lower, const std::vector<bool>& cached,
                                      std::uint64_t chunk_bytes) {
  std::uint64_t bytes = 0;
  std::size_t tiles = 0;
  for (TileId tile = 0; tile < cached.size(); ++tile) {
    if (!cached[tile]) continue;
    bytes += lower.layout().tile_bytes(lower.tile_elements(tile));
    ++tiles;
  }
  const std::uint64_t wanted = std::max<std::uint64_t>(bytes / chunk_bytes, 1);
  std::vector<std::vector<TileId>> chunks(std::min<std::uint64_t>(wanted, tiles));
  std::size_t next = 0;
  for (TileId tile = 0; tile < cached.size(); ++tile) {
    if (cached[tile]) chunks[next++ % chunks.size()].push_back(tile);
  }
  return chunks;
}

// The order in which chunks are made, and given back from the end: by their numbers with the bits
// reversed (van der Corput's sequence), of which any beginning is spread evenly.
std::vector<std::size_t> spread_order(std::size_t count) {
  const auto reversed = [](std::size_t number) {
    std::size_t bits = 0;
    for (int i = 0; i < 32; ++i) bits = bits << 1 | (number >> i & 1);
    return bits;
  };
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, reversed);
  return order;
}

}  // namespace

Result<std::unique_ptr<CachedTier>> CachedTier::create(std::unique_ptr<Tier> lower,
                                                       const std::vector<bool>& cached,
                                                       const CacheOptions& options) {
  SPILLWAY_CHECK(cached.size() == lower->tile_count(), "each tile is cached or not");
  SPILLWAY_CHECK(options.chunk_bytes > 0, "a chunk has a size");
  std::vector<Chunk> chunks;
  std::vector<std::vector<TileId>> dealt = deal(*lower, cached, options.chunk_bytes);
  pinned_pool::MemoryLimits limits;
  for (const std::size_t number : spread_order(dealt.size())) {
    std::vector<TileId>& tiles = dealt[number];
    std::vector<std::uint64_t> elements;
    for (const TileId tile : tiles) elements.push_back(lower->tile_elements(tile));
    // Now and then anew, as others take memory too.
    if (chunks.size() % kChunksPerLook == 0) limits = pinned_pool::MemoryLimits::read();
    auto ram = make_ram_tier_within(limits, lower->layout(), std::move(elements), options.ram);
    if (!ram && options.as_much_as_fits && ram.error().kind == ErrorKind::kNoMemory) break;
    if (!ram) return tl::unexpected(std::move(ram.error()));
    chunks.push_back({std::move(*ram), std::move(tiles)});
  }
  return std::make_unique<ChunkedCache>(std::move(lower), std::move(chunks));
}

}  // namespace spillway::swapper
