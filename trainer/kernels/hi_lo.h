// The fp32 master weight as two planes of 16 bits: hi is the bf16 weight, the master rounded half
// up, lo the low 16 bits; together they are the master exactly.
//
// Round half up in magnitude: hi = (bits + 0x8000) >> 16, lo = the low 16 bits; bits = (hi << 16) +
// sign_extend(lo) mod 2^32. The two formulas are inverse for every bit pattern, so infinities,
// zeros and denormals come back exactly, and so does the largest finite float, whose hi is infinity
// (its nearest bf16). Only NaN is an exception: rounding up would turn 0x7fffffff, the NaN CUDA
// makes, into a hi of -0 that the model takes for a weight. Every NaN is therefore split as 0x7fc0,
// 0: it stays a NaN in hi and in the master, its sign and payload drop.
#pragma once

#include <cstdint>

namespace spillway::trainer {

struct HiLo {
  std::uint16_t hi;
  std::uint16_t lo;
};
HiLo hi_lo_split(float master) noexcept;
float hi_lo_join(HiLo halves) noexcept;

}  // namespace spillway::trainer
