// BlockHash: the hash behind a block's checksum. A loop over the block's values can compute it
// while it has them in registers.
//
// A block is a sequence of 64-byte lines of four 16-byte lanes, padded with zeros. Each lane has a
// state; a line updates it by one round of AES (FIPS 197), state =
// MixColumns(ShiftRows(SubBytes(state))) ^ bytes: one instruction on CPUs with AES, one for all
// four lanes with VAES. XXH3 reduces the states to 64 bits at the end.
//
// A damaged block passes with a probability of 2^-64; damage within one line of a lane never leaves
// its state unchanged. It is no protection against intent. Threads: one at a time.
#pragma once

#include <spillway/aio/export.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway::swapper {

struct BlockHash {
  static constexpr std::size_t kLineBytes = 64;

  // Hashes the next bytes, with the CPU's AES instructions if it has them. REQUIRES, for both:
  // whole lines, except in the last call of a block.
  //
  // A round is a permutation: damage that a lane has in one line only always changes its state. So
  // does damage of at most 4 bytes in two neighbouring lines: of the bytes of a column, at least 5
  // differ before and after a round together. Other damage (torn sectors, swapped lines, shifted
  // zeros, bytes of another block) leaves a lane's state as it was with a probability of 2^-128,
  // unless the differences come from the rounds themselves.
  SPILLWAY_API void add(std::span<const std::byte> bytes) noexcept;
  // The same by plain loops: the definition.
  SPILLWAY_API void add_reference(std::span<const std::byte> bytes) noexcept;

  // Returns the hash of a block of `size_bytes`: the XXH3, with `seed`, of the lanes and the size
  // as a little-endian 64-bit word.
  SPILLWAY_API std::uint64_t value(std::uint64_t size_bytes, std::uint64_t seed) const noexcept;

  // The states of the four lanes, one after another. They start with the first digits of pi's
  // fraction, because equal states would stay symmetric.
  alignas(64) std::array<std::uint8_t, kLineBytes> lanes = {
      0x24, 0x3f, 0x6a, 0x88, 0x85, 0xa3, 0x08, 0xd3, 0x13, 0x19, 0x8a, 0x2e, 0x03,
      0x70, 0x73, 0x44, 0xa4, 0x09, 0x38, 0x22, 0x29, 0x9f, 0x31, 0xd0, 0x08, 0x2e,
      0xfa, 0x98, 0xec, 0x4e, 0x6c, 0x89, 0x45, 0x28, 0x21, 0xe6, 0x38, 0xd0, 0x13,
      0x77, 0xbe, 0x54, 0x66, 0xcf, 0x34, 0xe9, 0x0c, 0x6c, 0xc0, 0xac, 0x29, 0xb7,
      0xc9, 0x7c, 0x50, 0xdd, 0x3f, 0x84, 0xd5, 0xb5, 0xb5, 0x47, 0x09, 0x17};
};

}  // namespace spillway::swapper
