// What checksums over the planes of a tile cost beside their update: the planes are verified before
// it and recorded after it, 12 + 12 bytes a parameter.
#pragma once

#include "repetitions.h"
#include "update_memory.h"

// The ways to do it, as contenders; the first, without checksums, is the others' twin. AdamW, bf16
// weights, fp32 states and gradients. `constants` and `memory` outlive the list.
std::vector<Contender> checksum_contenders(const spillway::trainer::UpdateConstants& constants,
                                           const UpdateMemory& memory, int threads);

// The kernel that hashes in registers has the bits of update_range, and the sums of the planes.
bool hash_in_registers_is_right(const spillway::trainer::UpdateConstants& constants);

// Damages blocks in the ways that drives and software do (a bit, a word, a sector of zeros or of
// another block, two lines or sectors exchanged, a burst) and prints how many of so many the lane
// hash saw. False when it missed one.
bool lane_hash_sees_damage(int trials);
