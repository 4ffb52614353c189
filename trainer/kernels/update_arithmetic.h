// What the reference and the SIMD kernels of the update share: the pieces of a tile, and the
// storage formats of single values. Internal to update.h.
#pragma once

#include "trainer/kernels/update.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace spillway::trainer {

inline float bf16_value(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// To nearest even. Every NaN becomes 0x7fc0.
inline std::uint16_t bf16_bits(float value) {
  if (std::isnan(value)) return 0x7fc0;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// A permutation of 32 bits whose every output bit depends on every input bit: two rounds of
// multiply and shift, constants by C. Wellons ("lowbias32").
inline std::uint32_t scramble(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// Up with the probability of what is cut off. Every NaN becomes 0x7fc0.
inline std::uint16_t bf16_bits_at_random(float value, std::uint32_t random) {
  if (std::isnan(value)) return 0x7fc0;
  return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + (random & 0xffff)) >>
                                    16);
}

// The address `elements` behind that of a gradient, or before it. The result need not be one of the
// array: it is where the tile's first element would lie.
inline const void* moved_gradient(const OptimizerFormat& format, const void* gradient,
                                  std::int64_t elements) {
  const std::int64_t width = format.gradients == Dtype::kBf16 ? 2 : 4;
  return reinterpret_cast<const void*>(reinterpret_cast<std::intptr_t>(gradient) +
                                       elements * width);
}

// Calls body(constants, planes, first, count) for the part of each piece in [first, first + count),
// with planes whose `gradient` is that of the piece, as if it began with the tile.
template <typename Body>
void for_each_piece(const UpdateConstants& constants, const UpdatePlanes& planes,
                    std::uint64_t first, std::uint64_t count, const Body& body) {
  const std::span<const UpdatePiece> pieces = planes.pieces;
  if (pieces.empty()) {
    body(constants, planes, first, count);
    return;
  }
  // The last piece that begins at or before `first`.
  auto piece = std::upper_bound(pieces.begin() + 1, pieces.end(), first,
                                [](std::uint64_t i, const UpdatePiece& p) { return i < p.offset; });
  UpdatePlanes of_piece = planes;
  for (--piece; piece != pieces.end() && piece->offset < first + count; ++piece) {
    const std::uint64_t begin = std::max(first, piece->offset);
    const std::uint64_t end = std::min(first + count, piece->offset + piece->elements);
    if (begin >= end) continue;
    of_piece.gradient =
        moved_gradient(planes.format, piece->gradient, -static_cast<std::int64_t>(piece->offset));
    body(piece->constants, of_piece, begin, end - begin);
  }
}

// Update `count` elements from `first` on, of one piece, with states in fp32 or bf16. The second
// uses the SIMD target of this CPU.
void update_run_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                          std::uint64_t first, std::uint64_t count);
void update_run_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t first, std::uint64_t count);

// Adds what the planes of one number an element (not absmax) hold of the elements: by the CPU's
// rounds, by the reference's, or by those of several planes at a time. REQUIRES: `first` is a
// multiple of kHashedTogether; so is `count`, but for the hashes' last call.
void add_elements(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                  UpdateHashes& hashes);
void add_elements_reference(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                            UpdateHashes& hashes);
void add_elements_simd(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                       UpdateHashes& hashes);

// Elements whose 16-bit planes are whole lines of a BlockHash, for any vector.
inline constexpr std::uint64_t kHashedTogether = 64;
// The same with hashes. REQUIRES: both are multiples of kHashedTogether.
void update_hashed_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                             std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                             UpdateHashes& after);
void update_hashed_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                        std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                        UpdateHashes& after);

// The kernels of one optimizer and one format for the SIMD target of this CPU; as update_run_simd
// and update_hashed_simd. REQUIRES: the planes of a call have that format.
struct SimdKernels {
  decltype(&update_run_simd) run;
  decltype(&update_hashed_simd) run_hashed;
};

}  // namespace spillway::trainer
