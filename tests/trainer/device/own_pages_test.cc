// What memory a tensor leaves behind.
#include "trainer/device/own_pages.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <spillway/pinned_pool/limits.h>

#include <cstdint>
#include <vector>

namespace spillway::trainer {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

TEST(OwnPages, GoBackToTheSystemWhateverWasAllocatedSince) {
  // malloc has seen a large block freed: from here on it keeps smaller ones.
  at::ones({31 * kMiB}, at::kByte);
  std::vector<at::Tensor> passing, staying;
  for (int i = 0; i < 8; ++i) {
    passing.push_back(empty_on_own_pages({8, kMiB}, at::TensorOptions(at::kByte)).fill_(i));
    staying.push_back(at::ones({1000}));
  }
  for (int i = 0; i < 8; ++i) EXPECT_TRUE((passing[i] == i).all().item<bool>());
  const at::Tensor shared = passing[0].narrow(0, 1, 2);
  const std::uint64_t before = pinned_pool::memory_usage().resident_bytes;
  passing.clear();
  EXPECT_LT(pinned_pool::memory_usage().resident_bytes, before - 40 * kMiB);
  EXPECT_TRUE((shared == 0).all().item<bool>()) << "a view keeps its pages";
}

TEST(OwnPages, SmallTensorsAreAsAnyOther) {
  for (const std::int64_t rows : {0, 1, 3}) {
    const at::Tensor small = empty_on_own_pages({rows, 5}, at::TensorOptions(at::kBFloat16));
    EXPECT_EQ(small.sizes(), at::IntArrayRef({rows, 5}));
    EXPECT_EQ(small.scalar_type(), at::kBFloat16);
  }
}

}  // namespace
}  // namespace spillway::trainer
