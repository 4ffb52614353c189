// WeightReader: a checkpoint's weights as values, whatever planes they are kept in. Internal to
// exporting.
#pragma once

#include <spillway/trainer/checkpoint.h>

#include <cstdint>
#include <span>
#include <vector>

namespace spillway::trainer {

class WeightReader {
 public:
  explicit WeightReader(Checkpoint& checkpoint) : checkpoint_(&checkpoint) {}

  // Values [first, first + to.size()) of a parameter: the master weights, fp32, or as bf16 words
  // what training in bf16 computes with. kCorrupt names the bad block. REQUIRES: within it.
  Result<void> read(std::uint32_t parameter, std::uint64_t first, std::span<float> to);
  Result<void> read(std::uint32_t parameter, std::uint64_t first, std::span<std::uint16_t> to);

 private:
  template <typename Value>
  Result<void> read_runs(std::uint32_t parameter, std::uint64_t first, std::span<Value> to);
  Result<void> read_run(const Checkpoint::Run& run, bool has_low, float* to);
  Result<void> read_run(const Checkpoint::Run& run, bool has_low, std::uint16_t* to);

  Checkpoint* checkpoint_;
  std::vector<std::uint16_t> high_, low_;
  std::vector<float> values_;
};

}  // namespace spillway::trainer
