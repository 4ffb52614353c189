// HiLo: an fp32 master weight as two halves of 16 bits. hi is the bf16 weight, the master rounded
// half up; lo has the low 16 bits. Together they are exactly the master.
//
// Round half up in magnitude: hi = (bits + 0x8000) >> 16, lo = the low 16 bits; bits = (hi << 16) +
// sign_extend(lo) mod 2^32. The formulas are inverse for every bit pattern: infinities, zeros,
// denormals, and the largest finite float, whose hi is infinity (its nearest bf16), are exact. The
// exception is NaN: rounding up would turn 0x7fffffff, CUDA's NaN, into a hi of -0, a valid weight.
// So every NaN is split as 0x7fc0, 0: it stays a NaN, and loses its sign and payload.
#pragma once

#include <cstdint>

namespace spillway::trainer {

struct HiLo {
  std::uint16_t hi;
  std::uint16_t lo;
};
// Splits a master weight into its halves, and joins them again.
HiLo hi_lo_split(float master) noexcept;
float hi_lo_join(HiLo halves) noexcept;

}  // namespace spillway::trainer
