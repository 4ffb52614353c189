// Optimizer states in 8 bits: blocks of 256 values, each with its largest magnitude (absmax) in
// fp32 and an 8-bit code for each value divided by it.
//
// The codes are those of dynamic tree quantisation (Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization", 2022): 7 decades, the top one 0.1 to 1. Each decade has equal cells,
// twice as many as the one below; a cell's value is its middle. 0 and 1 have a code each.
//
//                cells of the decades     error of a value at most, from the top decade down
//   kSigned      1 2 4 ... 64, and sign   6.2%, 11.0%, 18.0%, 27.6%, 46.6%, 71.1%, 100%
//   kUnsigned    2 4 8 ... 128            3.3%,  6.2%, 11.0%, 18.0%, 27.6%, 46.6%, 100%
//
// A value gets the nearest code, with two exceptions: -absmax becomes -0.993 absmax, as -1 has no
// code; with kUnsigned a positive value never becomes 0 but the smallest code, so that a second
// moment below 1.6e-7 of its block's largest does not lead to a division by epsilon alone. Zeros
// stay zeros; a block below 2^-126 is stored as zeros; one with an infinity or NaN decodes to NaN
// only, so that the fault shows. Does not block or allocate. Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway::trainer {

inline constexpr std::size_t kQuantisedBlock = 256;  // elements

enum class CodeBook : std::uint8_t { kSigned, kUnsigned };

// Returns the value of a code in a block with absmax 1.
float code_value(CodeBook book, std::uint8_t code) noexcept;

// Convert `count` values to codes and back. `absmax` has one entry per block; the last block may be
// shorter than 256. Every SIMD target has the bits of the reference.
void encode_blocks(CodeBook book, const float* values, std::size_t count, std::uint8_t* codes,
                   float* absmax) noexcept;
void decode_blocks(CodeBook book, const std::uint8_t* codes, const float* absmax, std::size_t count,
                   float* values) noexcept;
// The same by plain loops: the definition.
void encode_blocks_reference(CodeBook book, const float* values, std::size_t count,
                             std::uint8_t* codes, float* absmax) noexcept;
void decode_blocks_reference(CodeBook book, const std::uint8_t* codes, const float* absmax,
                             std::size_t count, float* values) noexcept;

}  // namespace spillway::trainer
