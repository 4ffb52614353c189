#include "trainer/base/nearest_name.h"

#include <gtest/gtest.h>

namespace spillway::trainer {
namespace {

TEST(NearestNameTest, CountsEdits) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", "abc"), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("abc", "abxc"), 1u);
  EXPECT_EQ(edit_distance("abc", "ac"), 1u);
  EXPECT_EQ(edit_distance("abc", "axc"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(NearestNameTest, ASwapOfNeighboursIsOneEdit) {
  EXPECT_EQ(edit_distance("pipeline_raed", "pipeline_read"), 1u);
  EXPECT_EQ(edit_distance("ab", "ba"), 1u);
}

TEST(NearestNameTest, TakesTheNearestAndGuessesNotWildly) {
  const std::string names[] = {"aio", "bf16", "fp16", "seed"};
  EXPECT_EQ(nearest_name("aoi", names), "aio");
  EXPECT_EQ(nearest_name("bf61", names), "bf16");
  EXPECT_EQ(nearest_name("pf16", names), "bf16");  // as near as fp16, and first
  EXPECT_EQ(nearest_name("seed", names), "seed");
  EXPECT_EQ(nearest_name("optimizer", names), "");
}

}  // namespace
}  // namespace spillway::trainer
