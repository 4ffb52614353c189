// Decodes eight sequences in turn whose keys and values do not fit into RAM, and checks every byte:
//
//   kv_cache DIRECTORY [BLOCKS_IN_RAM]     (48 of 128; an existing directory; nothing is left
//   behind)
//
// Prints what a cache that knows the order saves over one that drops the least recently used block.
#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/limits.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "kv_cache.h"

using namespace spillway;

// 16 tokens of 32 layers with 8 heads of 128 values: 1 MiB of keys, 1 MiB of values.
constexpr std::uint64_t kBlockElements = 16 * 32 * 8 * 128;
constexpr std::uint32_t kSequences = 8;
constexpr std::uint32_t kBlocksOfSequence = 16;
constexpr std::uint32_t kBlocks = kSequences * kBlocksOfSequence;
constexpr int kRounds = 4;

// One round: somebody waits for the tokens of sequence 0, so it has a turn after each of the
// others. A turn attends to all blocks of its sequence.
swapper::Schedule one_round() {
  std::vector<swapper::TileId> uses;
  for (std::uint32_t other = 1; other < kSequences; ++other) {
    for (const std::uint32_t sequence : {other, 0U}) {
      for (std::uint32_t block = 0; block < kBlocksOfSequence; ++block) {
        uses.push_back(sequence * kBlocksOfSequence + block);
      }
    }
  }
  return {std::move(uses), kBlocks};
}

std::uint16_t key_of(KvCache::Block block, std::size_t i) {
  return static_cast<std::uint16_t>(i * 31 + block * 7919);
}
std::uint16_t value_of(KvCache::Block block, std::size_t i) {
  return static_cast<std::uint16_t>(~key_of(block, i));
}

// Puts all blocks, then gets them for kRounds rounds. Fails with kCorrupt at the first wrong byte.
Result<KvCacheStats> decode(KvCache& cache, const swapper::Schedule& schedule) {
  for (KvCache::Block block = 0; block < kBlocks; ++block) {
    auto planes = cache.put(block);
    if (!planes) return tl::unexpected(planes.error());
    for (std::size_t i = 0; i < kBlockElements; ++i) {
      planes->keys[i] = key_of(block, i);
      planes->values[i] = value_of(block, i);
    }
  }
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t position = 0; position < schedule.uses().size(); ++position) {
      const KvCache::Block block = schedule.uses()[position];
      auto planes = cache.get(position);
      if (!planes) return tl::unexpected(planes.error());
      bool same = true;
      for (std::size_t i = 0; i < kBlockElements; ++i) {
        same &= planes->keys[i] == key_of(block, i) && planes->values[i] == value_of(block, i);
      }
      if (!same) {
        return make_error(ErrorKind::kCorrupt, "check", "",
                          "block " + std::to_string(block) + " is not what was put");
      }
    }
  }
  return cache.stats();
}

Result<KvCacheStats> run(const char* directory, const KvCacheOptions& options) {
  const swapper::Layout layout(
      {{.name = "keys", .bytes_per_block = 2}, {.name = "values", .bytes_per_block = 2}});
  const swapper::Schedule schedule = one_round();
  auto engine = aio::Engine::create({});
  if (!engine) return tl::unexpected(engine.error());
  auto pool = pinned_pool::Pool::create({.buffer_bytes = layout.tile_bytes(kBlockElements),
                                         .buffer_count = options.blocks_in_ram,
                                         .name = "blocks"},
                                        engine->get());
  if (!pool) return tl::unexpected(pool.error());
  auto store = swapper::TileStore::create(**engine, layout, std::vector(kBlocks, kBlockElements),
                                          {.directories = {directory}, .name = "kv"});
  if (!store) return tl::unexpected(store.error());
  KvCache cache(**store, **pool, schedule, options);
  return decode(cache, schedule);
}

int main(int argc, char** argv) {
  const int blocks_in_ram = argc == 3 ? std::atoi(argv[2]) : 48;
  if (argc < 2 || argc > 3 || blocks_in_ram < 8) {
    std::fprintf(stderr, "usage: kv_cache DIRECTORY [BLOCKS_IN_RAM]   (at least 8)\n");
    return 2;
  }
  std::printf("%u blocks of 2.0 MiB, RAM for %d\n", kBlocks, blocks_in_ram);
  for (const Policy policy : {Policy::kSchedule, Policy::kLru}) {
    const auto stats =
        run(argv[1], {.policy = policy, .blocks_in_ram = static_cast<std::size_t>(blocks_in_ram)});
    if (!stats) {
      std::fprintf(stderr, "kv_cache: %s\n", stats.error().message().c_str());
      return 1;
    }
    const auto percent = [&](std::uint64_t count) {
      return 100.0 * static_cast<double>(count) / static_cast<double>(stats->gets);
    };
    std::printf("%-8s  hits %5.1f%%, read ahead %5.1f%%, waited for %5.1f%%; %s read, %s written\n",
                policy == Policy::kLru ? "LRU" : "schedule", percent(stats->hits),
                percent(stats->read_ahead), percent(stats->gets - stats->hits - stats->read_ahead),
                pinned_pool::format_bytes(stats->read_bytes).c_str(),
                pinned_pool::format_bytes(stats->written_bytes).c_str());
  }
  return 0;
}
