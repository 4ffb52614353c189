#include "trainer/interchange/weight_reader.h"

#include "trainer/kernels/hi_lo.h"

#include <algorithm>

namespace spillway::trainer {
namespace {

// Planes of a checkpoint: `param`, or `param_hi` and, unless frozen, `param_lo` (docs/format.md).
constexpr std::uint32_t kWeightPlane = 0;
constexpr std::uint32_t kLowPlane = 1;
constexpr std::uint64_t kMostValues = std::uint64_t{1} << 18;  // read at a time

}  // namespace

Result<void> WeightReader::read(std::uint32_t parameter, std::uint64_t first, std::span<float> to) {
  return read_runs(parameter, first, to);
}

Result<void> WeightReader::read(std::uint32_t parameter, std::uint64_t first,
                                std::span<std::uint16_t> to) {
  return read_runs(parameter, first, to);
}

template <typename Value>
Result<void> WeightReader::read_runs(std::uint32_t parameter, std::uint64_t first,
                                     std::span<Value> to) {
  const bool frozen = checkpoint_->manifest().parameters[parameter].frozen;
  for (Checkpoint::Run run : checkpoint_->find(parameter, first, to.size())) {
    for (std::uint64_t left = run.count; left > 0; left -= run.count) {
      run.count = std::min(left, kMostValues);
      if (auto read = read_run(run, !frozen, to.data()); !read) return read;
      run.offset += run.count;
      to = to.subspan(run.count);
    }
  }
  return {};
}

Result<void> WeightReader::read_run(const Checkpoint::Run& run, bool has_low, float* to) {
  const auto read = [&](std::uint32_t plane, void* bytes) {
    return checkpoint_->read(run.shard, run.extent, plane, run.offset, run.count,
                             static_cast<std::byte*>(bytes));
  };
  if (checkpoint_->manifest().format.weights == Dtype::kFp32) return read(kWeightPlane, to);
  high_.resize(run.count);
  low_.assign(run.count, 0);
  if (auto done = read(kWeightPlane, high_.data()); !done) return done;
  if (has_low) {
    if (auto done = read(kLowPlane, low_.data()); !done) return done;
  }
  for (std::uint64_t i = 0; i < run.count; ++i) to[i] = hi_lo_join({high_[i], low_[i]});
  return {};
}

Result<void> WeightReader::read_run(const Checkpoint::Run& run, bool, std::uint16_t* to) {
  const bool is_float = checkpoint_->manifest().format.weights == Dtype::kFp32;
  values_.resize(is_float ? run.count : 0);
  void* const place = is_float ? static_cast<void*>(values_.data()) : to;
  auto read = checkpoint_->read(run.shard, run.extent, kWeightPlane, run.offset, run.count,
                                static_cast<std::byte*>(place));
  for (std::size_t i = 0; i < values_.size(); ++i) to[i] = hi_lo_split(values_[i]).hi;
  return read;
}

}  // namespace spillway::trainer
