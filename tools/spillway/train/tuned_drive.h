// How a training run stands to the drive that its "aio" block was tuned on.
#pragma once

#include <spillway/aio/probe.h>
#include <spillway/trainer/config.h>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway::tools {

// What to tell when the block was tuned on another drive than the one probed; "" otherwise.
std::string tuned_elsewhere(const trainer::TunedDrive& tuned, const aio::PathProbe& probe);

// That for each directory on NVMe that the configuration names. Blocks for milliseconds.
std::vector<std::string> tuning_notes(const trainer::Config& config);

// " (91% of tuned)": the time that the bytes take at the tuned speeds, of the time they took. ""
// when the configuration does not know the speeds, or nothing was moved.
std::string share_of_tuned(const trainer::TunedDrive& tuned, std::uint64_t read_bytes,
                           std::uint64_t written_bytes, double seconds);

}  // namespace spillway::tools
