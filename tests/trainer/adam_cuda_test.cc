// The GPU's AdamW has the bits of the CPU's.
#include "spillway/trainer/adam_cuda.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "adam_state.h"

namespace spillway::trainer {
namespace {

using testing::AdamState;
using testing::difference;
using testing::Values;

constexpr std::uint64_t kSeed = 20261;

// A vector's copy in device memory.
template <typename T>
class DeviceCopy {
 public:
  explicit DeviceCopy(const std::vector<T>& host) : count_(host.size()) {
    EXPECT_EQ(cudaMalloc(&data_, count_ * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  DeviceCopy(const DeviceCopy&) = delete;
  DeviceCopy& operator=(const DeviceCopy&) = delete;
  ~DeviceCopy() { cudaFree(data_); }

  T* data() const { return data_; }
  void back_to(std::vector<T>& host) const {
    EXPECT_EQ(cudaMemcpy(host.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

class AdamCuda : public ::testing::TestWithParam<Values> {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(status);
    }
    std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  }

  static AdamConstants constants_at(std::uint64_t step) {
    return AdamConstants::at_step({.learning_rate = 3e-4, .weight_decay = 0.1}, step, 0.5f);
  }
  static constexpr std::size_t kSizes[] = {0, 1, 255, 256, 257, 4096 * 256 + 1, 3000001};
};

TEST_P(AdamCuda, Fp32HasTheBitsOfTheCpu) {
  for (const std::size_t size : kSizes) {
    AdamState expected(size + 3, GetParam(), kSeed + size);  // three elements are to stay
    AdamState actual = expected;
    const DeviceCopy param(actual.param), exp_avg(actual.exp_avg), grad(actual.grad);
    const DeviceCopy exp_avg_sq(actual.exp_avg_sq);
    for (std::uint64_t step = 1; step <= 5; ++step) {
      adam_update(constants_at(step), expected.fp32(), size);
      const auto launched = adam_update_cuda(
          constants_at(step), {param.data(), exp_avg.data(), exp_avg_sq.data(), grad.data()}, size,
          nullptr);
      ASSERT_TRUE(launched) << launched.error().message();
    }
    param.back_to(actual.param);
    exp_avg.back_to(actual.exp_avg);
    exp_avg_sq.back_to(actual.exp_avg_sq);
    ASSERT_EQ(difference(actual, expected), "") << "size " << size;
  }
}

TEST_P(AdamCuda, Bf16HasTheBitsOfTheCpu) {
  for (const std::size_t size : kSizes) {
    AdamState expected(size + 3, GetParam(), kSeed + size);
    AdamState actual = expected;
    const DeviceCopy hi(actual.hi), lo(actual.lo);
    const DeviceCopy exp_avg(actual.exp_avg), exp_avg_sq(actual.exp_avg_sq), grad(actual.grad);
    for (std::uint64_t step = 1; step <= 5; ++step) {
      adam_update(constants_at(step), expected.bf16(), size);
      const auto launched = adam_update_cuda(
          constants_at(step),
          {hi.data(), lo.data(), exp_avg.data(), exp_avg_sq.data(), grad.data()}, size, nullptr);
      ASSERT_TRUE(launched) << launched.error().message();
    }
    hi.back_to(actual.hi);
    lo.back_to(actual.lo);
    exp_avg.back_to(actual.exp_avg);
    exp_avg_sq.back_to(actual.exp_avg_sq);
    ASSERT_EQ(difference(actual, expected), "") << "size " << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Values, AdamCuda, ::testing::Values(Values::kTraining, Values::kAnything),
                         [](const auto& values) {
                           return values.param == Values::kTraining ? "Training" : "Anything";
                         });

}  // namespace
}  // namespace spillway::trainer
