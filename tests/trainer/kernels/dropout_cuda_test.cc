// The GPU's dropout has the bits of the CPU's.
#include "trainer/kernels/dropout_cuda.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "tests/trainer/kernels/random_values.h"

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kSeed = 20266;

class DropoutCuda : public ::testing::TestWithParam<Dtype> {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(status);
    }
    std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  }
};

TEST_P(DropoutCuda, HasTheBitsOfTheCpu) {
  const std::size_t element_bytes = GetParam() == Dtype::kBf16 ? 2 : 4;
  std::mt19937_64 random(kSeed);
  for (const double p : {0.0, 0.1, 0.5, 1.0}) {
    for (const std::uint64_t elements : {0, 1, 63, 64, 65, 1000, 300007}) {
      const DropoutMask mask = DropoutMask::create({.seed = 1, .step = 2, .unit = 3}, p);
      DropoutTensor tensor{.dtype = GetParam(),
                           .first_sample = (std::uint64_t{1} << 32) - 1,
                           .samples = 3,
                           .elements = elements};
      std::vector<float> values(tensor.samples * elements);
      for (float& value : values) value = testing::draw(random, testing::Values::kAnything, 1);
      const std::size_t bytes = values.size() * element_bytes;
      std::vector<std::byte> from(bytes), expected(bytes), actual(bytes);
      std::memcpy(from.data(), values.data(), bytes);
      tensor.from = from.data();
      tensor.to = expected.data();
      dropout(mask, tensor, 0, values.size());
      void* memory = nullptr;
      ASSERT_EQ(cudaMalloc(&memory, bytes + 1), cudaSuccess);
      ASSERT_EQ(cudaMemcpy(memory, from.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
      tensor.from = tensor.to = memory;
      const auto launched = dropout_cuda(mask, tensor, nullptr);
      ASSERT_TRUE(launched) << launched.error().message();
      ASSERT_EQ(cudaMemcpy(actual.data(), memory, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
      cudaFree(memory);
      ASSERT_EQ(actual, expected) << elements << " elements, p " << p;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, DropoutCuda, ::testing::Values(Dtype::kFp32, Dtype::kBf16),
                         [](const auto& format) {
                           return format.param == Dtype::kBf16 ? "bf16" : "fp32";
                         });

}  // namespace
}  // namespace spillway::trainer
