// DeepSpeed's knob of the number of threads, which has three names.
#pragma once

#include <array>

namespace spillway::aio_bench {

inline constexpr const char* kThreadKnob = "intra_op_parallelism";
inline constexpr std::array<const char*, 2> kOlderThreadKnobs = {"thread_count", "num_threads"};

}  // namespace spillway::aio_bench
