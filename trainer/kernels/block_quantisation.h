// Optimizer states in 8 bits: blocks of 256 values, each with its largest magnitude (absmax) in
// fp32 and a code of 8 bits for each value divided by it.
//
// The codes are those of dynamic tree quantisation (Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization", 2022): 7 decades, the top one 0.1 to 1, each cut into equal cells that
// stand for their middles, twice as many from one decade to the next; and 0, and 1.
//
//                cells of the decades     error of a value at most, from the top decade down
//   kSigned      1 2 4 ... 64, and sign   6.2%, 11.0%, 18.0%, 27.6%, 46.6%, 71.1%, 100%
//   kUnsigned    2 4 8 ... 128            3.3%,  6.2%, 11.0%, 18.0%, 27.6%, 46.6%, 100%
//
// A value takes the nearest code, with two exceptions: -absmax becomes -0.993 absmax, for -1 has no
// code; and with kUnsigned a positive value never becomes 0 but the smallest code, so that a second
// moment below 1.6e-7 of its block's largest does not leave a division by epsilon alone. Zeros stay
// zeros; 0 in all bytes is a block of zeros. A block whose largest magnitude is below 2^-126 is
// stored as zeros. One that holds an infinity or a NaN comes back as NaN in every value: what has
// gone wrong shows. Nothing here blocks or allocates; any thread may call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway::trainer {

inline constexpr std::size_t kQuantisedBlock = 256;  // elements

enum class CodeBook : std::uint8_t { kSigned, kUnsigned };

// What a code of a block with absmax 1 stands for.
float code_value(CodeBook book, std::uint8_t code) noexcept;

// `count` values to codes and back; absmax has one entry for each block begun. A last block may be
// shorter than 256. The same bits on every SIMD target as the reference.
void encode_blocks(CodeBook book, const float* values, std::size_t count, std::uint8_t* codes,
                   float* absmax) noexcept;
void decode_blocks(CodeBook book, const std::uint8_t* codes, const float* absmax, std::size_t count,
                   float* values) noexcept;
// Plain loops, the definition.
void encode_blocks_reference(CodeBook book, const float* values, std::size_t count,
                             std::uint8_t* codes, float* absmax) noexcept;
void decode_blocks_reference(CodeBook book, const std::uint8_t* codes, const float* absmax,
                             std::size_t count, float* values) noexcept;

}  // namespace spillway::trainer
