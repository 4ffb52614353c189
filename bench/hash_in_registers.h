// The experiment behind checksum_cost: AdamW with bf16 weights and fp32 states whose kernel also
// sums what it has loaded and what it is about to store, while both are in registers.
#pragma once

#include <spillway/trainer/optimizer_update.h>

#include <cstddef>
#include <cstdint>

// Fletcher's two sums, mod 2^64, in 8 lanes of 64 bits, of one plane.
struct alignas(64) LaneSums {
  std::uint64_t sum[8] = {};
  std::uint64_t weighted[8] = {};
};

// Of hi, lo, exp_avg, exp_avg_sq.
struct PlaneSums {
  LaneSums before[4], after[4];
};

// Whether this CPU has a target the experiment is written for (vectors of 64 bytes).
bool can_hash_in_registers();
// The bits of update_range. REQUIRES: can_hash_in_registers, multiples of 32.
void update_and_hash(const spillway::trainer::UpdateConstants& constants,
                     const spillway::trainer::UpdatePlanes& planes, std::size_t first,
                     std::size_t count, PlaneSums& sums);
