// The checksum of the texts and files of a checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway::trainer {

// XXH3 with 64 bits and no seed.
std::uint64_t checksum_of(std::span<const std::byte> bytes);

}  // namespace spillway::trainer
