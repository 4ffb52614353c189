#include "spillway/pinned_pool/cuda_runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_cuda_runtime.h"
#include "spillway/pinned_pool/slab.h"

namespace spillway::pinned_pool {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr int kOutOfMemory = 2;  // cudaErrorMemoryAllocation
constexpr SlabOptions kOptions{.size_bytes = 4096, .huge_pages = Policy::kOff};

class CudaRuntime : public ::testing::Test {
 protected:
  CudaRuntime() {
    *fake_cuda() = {};
    EXPECT_EQ(cuda_status().device_count, 1) << cuda_status().reason;
  }
};

TEST_F(CudaRuntime, MemoryIsRegistered) {
  const auto slab = Slab::create(kOptions);
  ASSERT_TRUE(slab);
  EXPECT_TRUE(slab->cuda_registered());
  EXPECT_TRUE(slab->pinned());
}

// The next kernel would be blamed for it: whoever launches one asks for the last error.
TEST_F(CudaRuntime, AFailureLeavesNoLastError) {
  fake_cuda()->register_error = kOutOfMemory;
  const auto slab = Slab::create(kOptions);
  ASSERT_TRUE(slab);
  EXPECT_FALSE(slab->cuda_registered());
  EXPECT_THAT(slab->report(), Contains(HasSubstr("out of memory")));
  EXPECT_EQ(cudaGetLastError(), 0);
}

TEST_F(CudaRuntime, AFailureToUnregisterLeavesNoLastError) {
  fake_cuda()->unregister_error = kOutOfMemory;
  ASSERT_TRUE(Slab::create(kOptions));
  EXPECT_EQ(cudaGetLastError(), 0);
}

// A process of its own, as the devices are counted once.
TEST(CudaRuntimeDeathTest, AFailureToCountLeavesNoLastError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        fake_cuda()->count_error = kOutOfMemory;
        const bool named = cuda_status().reason == "cudaGetDeviceCount: out of memory";
        std::_Exit(named && cudaGetLastError() == 0 ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace spillway::pinned_pool
