// BlockHash: what a block's checksum is made of, in a form that a loop over the block's values can
// compute while it has them in registers.
//
// A block is taken as lines of 64 bytes, each of them four lanes of 16, the last line filled up
// with zeros. A lane's state takes its 16 bytes of a line by one round of AES (FIPS 197),
// state = MixColumns(ShiftRows(SubBytes(state))) ^ bytes: one instruction on every CPU that has
// AES, and on AVX-512 with VAES one for all four. In the end XXH3 makes 64 bits of the states.
//
// What it finds. A round is a permutation, so damage that a lane has in one line alone, whatever it
// is, always leaves another state; so does damage of at most 4 bytes in two neighbouring lines, for
// what differs in a column makes so many differ a round later that both together are 5. Other
// damage (torn sectors, lines that changed places, shifted zeros, bytes of another block) passes
// the states by chance: once in 2^128 a lane, unless the differences come from the rounds
// themselves. 64 bits are made of the states, which pass once in 2^64: that is the bound to count
// with. It is no protection against intent.
#pragma once

#include <spillway/aio/export.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway::swapper {

struct BlockHash {
  static constexpr std::size_t kLineBytes = 64;

  // Takes the next bytes, with the CPU's AES where it has one. REQUIRES, of both: whole lines but
  // for a block's last call.
  SPILLWAY_API void add(std::span<const std::byte> bytes) noexcept;
  // Plain loops, the definition.
  SPILLWAY_API void add_reference(std::span<const std::byte> bytes) noexcept;

  // 64 bits of the states of a block of `size_bytes`: XXH3 of the lanes and the size, a
  // little-endian word of 64 bits, with the seed.
  SPILLWAY_API std::uint64_t value(std::uint64_t size_bytes, std::uint64_t seed) const noexcept;

  // Of the four lanes one after another. At the start the first digits of pi's fraction: of zeros
  // the states would keep the symmetry.
  alignas(64) std::array<std::uint8_t, kLineBytes> lanes = {
      0x24, 0x3f, 0x6a, 0x88, 0x85, 0xa3, 0x08, 0xd3, 0x13, 0x19, 0x8a, 0x2e, 0x03,
      0x70, 0x73, 0x44, 0xa4, 0x09, 0x38, 0x22, 0x29, 0x9f, 0x31, 0xd0, 0x08, 0x2e,
      0xfa, 0x98, 0xec, 0x4e, 0x6c, 0x89, 0x45, 0x28, 0x21, 0xe6, 0x38, 0xd0, 0x13,
      0x77, 0xbe, 0x54, 0x66, 0xcf, 0x34, 0xe9, 0x0c, 0x6c, 0xc0, 0xac, 0x29, 0xb7,
      0xc9, 0x7c, 0x50, 0xdd, 0x3f, 0x84, 0xd5, 0xb5, 0xb5, 0x47, 0x09, 0x17};
};

}  // namespace spillway::swapper
