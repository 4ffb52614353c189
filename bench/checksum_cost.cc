#include "checksum_cost.h"

#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

#include "hash_in_registers.h"

// As the swapper: the library's plain functions use SSE2 only.
#ifdef SPILLWAY_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

using namespace spillway::trainer;

namespace {

constexpr std::size_t kRange = 32768;  // parameters between two checksums of a plane
constexpr std::size_t kInL1 = 1024;    // parameters whose planes fit into the L1 cache together

typedef std::uint64_t Line __attribute__((vector_size(64), may_alias));
#if defined(__x86_64__)
#define WIDEST_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST_VECTORS
#endif

// The lane hash: Fletcher's two sums, mod 2^64, in 8 lanes of 64 bits, folded by XXH3 at the end.
//
// Two additions for 64 bytes. A change inside one word of a lane always changes that lane's first
// sum; so does a burst inside a line. Changes of several words pass the lanes only when in each
// lane touched both sums, the plain one and the one weighted by position, come out the same mod
// 2^64: not by exchanging lines or sectors, and for contents that have nothing to do with each
// other once in 2^128 a lane. What XXH3 adds is the order of lanes and, at 64 bits, one chance in
// 2^64. It is no protection against intent.
struct LaneHash {
  Line sum{}, weighted{};

  std::uint64_t value(std::uint64_t seed) const {
    return XXH3_64bits_withSeed(this, sizeof *this, seed);
  }
};

WIDEST_VECTORS void add_lines(LaneHash& hash, const std::byte* data, std::size_t bytes) {
  const auto* lines = reinterpret_cast<const Line*>(data);
  Line sum = hash.sum, weighted = hash.weighted;
  for (std::size_t i = 0; i < bytes / sizeof(Line); ++i) {
    sum += lines[i];
    weighted += sum;
  }
  hash.sum = sum;
  hash.weighted = weighted;
}

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

void lane_hash_planes(const UpdateMemory& memory, std::size_t first, std::size_t count) {
  for_each_plane(memory, first, count, [](int, const std::byte* data, std::size_t bytes) {
    LaneHash hash;
    add_lines(hash, data, bytes);
    remembered = remembered ^ hash.value(1);
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

void lanes_in_l2(const UpdateConstants& constants, const UpdateMemory& memory, std::size_t first,
                 std::size_t count) {
  lane_hash_planes(memory, first, count);
  update_range(constants, memory.planes(), first, count);
  lane_hash_planes(memory, first, count);
}

// The sums go on over the parts of the range, each of which stays in the L1 cache between.
void lanes_in_l1(const UpdateConstants& constants, const UpdateMemory& memory, std::size_t first,
                 std::size_t count) {
  LaneHash before[UpdateMemory::kStreams], after[UpdateMemory::kStreams];
  const auto add_to = [](LaneHash* hashes) {
    return [hashes](int plane, const std::byte* data, std::size_t bytes) {
      add_lines(hashes[plane], data, bytes);
    };
  };
  for (std::size_t done = 0; done < count; done += kInL1) {
    const std::size_t size = std::min(kInL1, count - done);
    for_each_plane(memory, first + done, size, add_to(before));
    update_range(constants, memory.planes(), first + done, size);
    for_each_plane(memory, first + done, size, add_to(after));
  }
  for (const LaneHash& hash : before) remembered = remembered ^ hash.value(1);
  for (const LaneHash& hash : after) remembered = remembered ^ hash.value(1);
}

// The sums of values that the kernel holds anyway.
void lanes_in_registers(const UpdateConstants& constants, const UpdateMemory& memory,
                        std::size_t first, std::size_t count) {
  PlaneSums sums;
  update_and_hash(constants, memory.planes(), first, count, sums);
  for (int plane = 0; plane < 4; ++plane) {
    remembered = remembered ^ XXH3_64bits_withSeed(&sums.before[plane], sizeof(LaneSums), 1);
    remembered = remembered ^ XXH3_64bits_withSeed(&sums.after[plane], sizeof(LaneSums), 1);
  }
}

bool same_sums(const LaneSums& sums, const LaneHash& hash) {
  return std::memcmp(&sums, &hash, sizeof hash) == 0;
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
  list.push_back(make("lane hash, range by range (in the L2 cache)", lanes_in_l2));
  list.push_back(make("lane hash, 1024 parameters at a time (in the L1 cache)", lanes_in_l1));
  if (can_hash_in_registers()) {
    list.push_back(make("lane hash, in the kernel's registers", lanes_in_registers));
  }
  return list;
}

bool hash_in_registers_is_right(const UpdateConstants& constants) {
  if (!can_hash_in_registers()) return true;
  const OptimizerFormat format{.weights = Dtype::kBf16};
  const UpdateMemory plain(format, kRange), hashed(format, kRange);
  LaneHash before[4], after[4];
  const auto add_to = [](LaneHash* hashes) {
    return [hashes](int plane, const std::byte* data, std::size_t bytes) {
      add_lines(hashes[plane], data, bytes);
    };
  };
  for_each_plane(plain, 0, kRange, add_to(before));
  update_range(constants, plain.planes(), 0, kRange);
  for_each_plane(plain, 0, kRange, add_to(after));
  PlaneSums sums;
  update_and_hash(constants, hashed.planes(), 0, kRange, sums);
  bool right = plain.fingerprint() == hashed.fingerprint();
  for (int plane = 0; plane < 4; ++plane) {
    right &= same_sums(sums.before[plane], before[plane]);
    right &= same_sums(sums.after[plane], after[plane]);
  }
  return right;
}

bool lane_hash_sees_damage(int trials) {
  static constexpr const char* kKinds[] = {
      "a bit flipped",       "a word replaced",       "a sector of zeros",         "4 KiB replaced",
      "two lines exchanged", "two sectors exchanged", "a burst of up to 256 bytes"};
  std::mt19937_64 random(7);
  bool all = true;
  std::printf("\n| damage to 64 KiB of fp32 moments | seen |\n|---|---|\n");
  for (int kind = 0; kind < 7; ++kind) {
    int damaged = 0, seen = 0;
    for (int trial = 0; trial < trials; ++trial) {
      std::vector<std::byte> block(65536);
      auto* values = reinterpret_cast<float*>(block.data());
      for (std::size_t i = 0; i < block.size() / 4; ++i) {
        values[i] = static_cast<float>(static_cast<std::int64_t>(random())) * 1e-21f;
      }
      LaneHash before, after;
      add_lines(before, block.data(), block.size());
      damaged += damage(kind, block, random) ? 1 : 0;
      add_lines(after, block.data(), block.size());
      seen += before.value(1) != after.value(1) ? 1 : 0;
    }
    std::printf("| %s | %d of %d |\n", kKinds[kind], seen, damaged);
    all &= seen == damaged;
  }
  return all;
}
