// KvCache: blocks of attention keys and values, the RAM for some of them, NVMe for the rest.
//
// A server that decodes several sequences in turn knows which block it needs next. The cache then
// drops the block that is needed farthest in the future and reads ahead the one that is needed
// next; with Policy::kLru it does what a cache does that knows nothing. A block does not change
// once it is put, so it is written at most once. One thread.
#pragma once

#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/schedule.h>
#include <spillway/swapper/tile_store.h>

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

enum class Policy { kSchedule, kLru };

struct KvCacheOptions {
  Policy policy = Policy::kSchedule;
  std::size_t blocks_in_ram = 0;  // including those in flight from and to the disk
  std::size_t blocks_ahead = 4;   // at most this many are read before they are asked for
};

struct KvCacheStats {
  std::uint64_t gets = 0;
  std::uint64_t hits = 0;        // was in RAM since its last use
  std::uint64_t read_ahead = 0;  // was in flight, or already there
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
};

class KvCache {
 public:
  using Block = spillway::swapper::TileId;
  struct Planes {
    std::span<std::uint16_t> keys;  // bf16 or fp16
    std::span<std::uint16_t> values;
  };

  // The cache uses the pool's buffers, each of one block, and the store's tiles, one a block; all
  // must outlive it. `schedule` is the order of gets.
  KvCache(spillway::swapper::TileStore& store, spillway::pinned_pool::Pool& pool,
          const spillway::swapper::Schedule& schedule, const KvCacheOptions& options);

  // Memory for a new block, to be filled before the next call.
  spillway::Result<Planes> put(Block block);
  // The block that the schedule names at `position`; its memory is good until the next call.
  spillway::Result<Planes> get(std::size_t position);

  KvCacheStats stats() const;

 private:
  struct Entry {
    spillway::pinned_pool::Lease memory;   // empty when it is not in RAM
    spillway::swapper::Transfer incoming;  // valid while it is read
    bool stored = false;
    std::uint64_t last_use = 0;
  };

  Planes planes(Entry& entry) const;
  // The Lease to read or put a block into. Empty when only blocks could be dropped that are needed
  // before `needed` (counted in gets from now).
  spillway::Result<spillway::pinned_pool::Lease> make_room(std::uint64_t needed);
  std::optional<Block> victim(std::uint64_t needed) const;
  spillway::Result<void> start_read(Block block, spillway::pinned_pool::Lease memory);
  spillway::Result<void> read_ahead();
  spillway::Result<void> finish_oldest_write();
  std::uint64_t distance(Block block) const;

  spillway::swapper::TileStore& store_;
  spillway::pinned_pool::Pool& pool_;
  const spillway::swapper::Schedule& schedule_;
  const KvCacheOptions options_;
  std::vector<Entry> entries_;
  struct Write {
    Block block;
    spillway::swapper::Transfer transfer;
  };
  std::deque<Write> writes_;  // oldest first
  std::size_t next_ = 0;      // the position that is asked for next
  std::optional<Block> in_use_;
  std::uint64_t clock_ = 0;
  KvCacheStats stats_;
};
