// What checksums over the planes of a tile cost beside their update: the planes are verified before
// it and recorded after it, 12 + 12 bytes a parameter with fp32 states.
#pragma once

#include "repetitions.h"
#include "update_memory.h"

// The ways to do it, as contenders; the first, without checksums, is the others' twin. `constants`
// and `memory` outlive the list.
std::vector<Contender> checksum_contenders(const spillway::trainer::UpdateConstants& constants,
                                           const UpdateMemory& memory, int threads);

// The update that hashes has the bits of the one that does not, and the hashes of the planes'
// bytes before and after.
bool hashed_update_is_right(const spillway::trainer::UpdateConstants& constants,
                            const spillway::trainer::OptimizerFormat& format);

// Damages blocks in the ways that drives and software do (a bit, a word, a sector of zeros or of
// another block, two lines or sectors exchanged, the same bit of two words, a burst) and prints how
// many of so many BlockHash saw. False when it missed one.
bool block_hash_sees_damage(int trials);
