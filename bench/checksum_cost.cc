#include "checksum_cost.h"

#include <xxhash.h>
#include "trainer/plan/optimizer_layout.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

// The library's plain functions use SSE2 only.
#ifdef SPILLWAY_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

using namespace spillway::trainer;
using spillway::swapper::BlockHash;

namespace {

constexpr std::size_t kRange = 32768;  // parameters between two checksums of a plane

// What stands for the values that a tile remembers.
volatile std::uint64_t remembered = 0;

template <typename Body>
void for_each_plane(const UpdateMemory& memory, std::size_t first, std::size_t count,
                    const Body& body) {
  int number = 0;
  for (const UpdateMemory::Stream& stream : memory.streams()) {
    if (!stream.written || stream.block_bytes == 0) continue;
    body(number++, stream.data + first / 256 * stream.block_bytes,
         count / 256 * stream.block_bytes);
  }
}

void xxh3_planes(const UpdateMemory& memory, std::size_t first, std::size_t count) {
  for_each_plane(memory, first, count, [](int, const std::byte* data, std::size_t bytes) {
    remembered = remembered ^ XXH3_64bits_withSeed(data, bytes, 1);
  });
}

void hash_planes(const UpdateMemory& memory, std::size_t first, std::size_t count) {
  for_each_plane(memory, first, count, [](int, const std::byte* data, std::size_t bytes) {
    BlockHash hash;
    hash.add({data, bytes});
    remembered = remembered ^ hash.value(bytes, 1);
  });
}

using RangeBody = void (*)(const UpdateConstants&, const UpdateMemory&, std::size_t, std::size_t);

void no_checksums(const UpdateConstants& constants, const UpdateMemory& memory, std::size_t first,
                  std::size_t count) {
  update_range(constants, memory.planes(), first, count);
}

void xxh3_in_l2(const UpdateConstants& constants, const UpdateMemory& memory, std::size_t first,
                std::size_t count) {
  xxh3_planes(memory, first, count);
  update_range(constants, memory.planes(), first, count);
  xxh3_planes(memory, first, count);
}

void block_hash_in_l2(const UpdateConstants& constants, const UpdateMemory& memory,
                      std::size_t first, std::size_t count) {
  hash_planes(memory, first, count);
  update_range(constants, memory.planes(), first, count);
  hash_planes(memory, first, count);
}

// As the trainer does it.
void block_hash_in_update(const UpdateConstants& constants, const UpdateMemory& memory,
                          std::size_t first, std::size_t count) {
  UpdateHashes before, after;
  update_range(constants, memory.planes(), first, count, before, after);
  for (const UpdateHashes& hashes : {before, after}) {
    remembered = remembered ^ weight_hashes(hashes)[0].value(count * 2, 1);
    for (const BlockHash& hash : state_hashes(hashes, memory.format())) {
      remembered = remembered ^ hash.value(count * 4, 1);
    }
  }
}

Contender contender(std::string name, RangeBody body, const UpdateConstants& constants,
                    const UpdateMemory& memory, int threads) {
  return {std::move(name), 0, [body, &constants, &memory, threads] {
            in_parallel(threads, memory.count(), [&](std::size_t first, std::size_t size) {
              for (std::size_t done = 0; done < size; done += kRange) {
                body(constants, memory, first + done, std::min(kRange, size - done));
              }
            });
          }};
}

// One kind of damage to a block of 64 KiB. Returns whether a byte differs.
bool damage(int kind, std::vector<std::byte>& block, std::mt19937_64& random) {
  const std::vector<std::byte> before = block;
  const auto at = [&](std::size_t unit) { return random() % (block.size() / unit) * unit; };
  switch (kind) {
    case 0:
      block[at(1)] ^= std::byte(1u << random() % 8);
      break;
    case 1:
      for (std::size_t i = 0, word = at(8); i < 8; ++i) block[word + i] = std::byte(random());
      break;
    case 2:
      std::memset(&block[at(512)], 0, 512);
      break;
    case 3:
      for (std::size_t i = 0, sector = at(4096); i < 4096; ++i) {
        block[sector + i] = std::byte(random());
      }
      break;
    case 4:
      if (const std::size_t a = at(64), b = at(64); a != b) {
        std::swap_ranges(&block[a], &block[a] + 64, &block[b]);
      }
      break;
    case 5:
      if (const std::size_t a = at(512), b = at(512); a != b) {
        std::swap_ranges(&block[a], &block[a] + 512, &block[b]);
      }
      break;
    case 6: {
      const std::size_t word = at(64), other = (word + (64 << random() % 9)) % block.size();
      const auto bit = std::byte(1u << random() % 8);
      const std::size_t byte = random() % 8;
      block[word + byte] ^= bit;
      block[other + byte] ^= bit;
      break;
    }
    default: {
      const std::size_t length = 1 + random() % 256, start = random() % (block.size() - length);
      for (std::size_t i = 0; i < length; ++i) block[start + i] ^= std::byte(random());
    }
  }
  return block != before;
}

}  // namespace

std::vector<Contender> checksum_contenders(const UpdateConstants& constants,
                                           const UpdateMemory& memory, int threads) {
  const auto make = [&](std::string name, RangeBody body) {
    return contender(std::move(name), body, constants, memory, threads);
  };
  const auto pass = [&memory, threads] {
    in_parallel(threads, memory.count(), [&](std::size_t first, std::size_t size) {
      for (std::size_t done = 0; done < size; done += kRange) {
        xxh3_planes(memory, first + done, std::min(kRange, size - done));
      }
    });
  };
  std::vector<Contender> list{make("no checksums", no_checksums)};
  const auto update = list[0].step;
  list.push_back({"XXH3, passes of their own", 0, [=] {
                    pass();
                    update();
                    pass();
                  }});
  list.push_back(make("XXH3, range by range (in the L2 cache)", xxh3_in_l2));
  list.push_back(make("BlockHash, range by range (in the L2 cache)", block_hash_in_l2));
  list.push_back(make("BlockHash, in the update's pass", block_hash_in_update));
  return list;
}

bool hashed_update_is_right(const UpdateConstants& constants, const OptimizerFormat& format) {
  const UpdateMemory plain(format, kRange), hashed(format, kRange);
  // The streams have their own order: weight, lo and each state with its absmax.
  const auto hashes_of = [](const UpdateMemory& memory) {
    std::vector<BlockHash> hashes;
    for_each_plane(memory, 0, kRange, [&](int, const std::byte* data, std::size_t bytes) {
      hashes.emplace_back().add({data, bytes});
    });
    return hashes;
  };
  const std::vector<BlockHash> expected_before = hashes_of(plain);
  update_range(constants, plain.planes(), 0, kRange);
  const std::vector<BlockHash> expected_after = hashes_of(plain);
  UpdateHashes before, after;
  update_range(constants, hashed.planes(), 0, kRange, before, after);
  bool right = plain.fingerprint() == hashed.fingerprint();
  const auto among = [](const BlockHash& hash, const std::vector<BlockHash>& list) {
    return std::ranges::any_of(list, [&](const auto& one) { return one.lanes == hash.lanes; });
  };
  for (std::size_t i = 0; i < expected_before.size(); ++i) {
    right &= among(before.planes[i], expected_before) && among(after.planes[i], expected_after);
  }
  return right;
}

bool block_hash_sees_damage(int trials) {
  static constexpr const char* kKinds[] = {"a bit flipped",
                                           "a word replaced",
                                           "a sector of zeros",
                                           "4 KiB replaced",
                                           "two lines exchanged",
                                           "two sectors exchanged",
                                           "the same bit of two words",
                                           "a burst of up to 256 bytes"};
  std::mt19937_64 random(7);
  bool all = true;
  std::printf("\n| damage to 64 KiB of fp32 moments | seen |\n|---|---|\n");
  for (int kind = 0; kind < 8; ++kind) {
    int damaged = 0, seen = 0;
    for (int trial = 0; trial < trials; ++trial) {
      std::vector<std::byte> block(65536);
      auto* values = reinterpret_cast<float*>(block.data());
      for (std::size_t i = 0; i < block.size() / 4; ++i) {
        values[i] = static_cast<float>(static_cast<std::int64_t>(random())) * 1e-21f;
      }
      BlockHash before, after;
      before.add(block);
      damaged += damage(kind, block, random) ? 1 : 0;
      after.add(block);
      seen += before.value(block.size(), 1) != after.value(block.size(), 1) ? 1 : 0;
    }
    std::printf("| %s | %d of %d |\n", kKinds[kind], seen, damaged);
    all &= seen == damaged;
  }
  return all;
}
