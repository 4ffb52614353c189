// How an evaluation's samples are divided over ranks.
#include "trainer/run/evaluate.h"

#include <gtest/gtest.h>

#include <vector>

namespace spillway::trainer::testing {
namespace {

// Ranks that divide the samples, that do not, and that are more than there are.
TEST(EvaluationShareTest, CountsEverySampleOnceAndComputesAsManyOnEachRank) {
  for (const std::uint64_t samples : {1, 2, 3, 5, 8, 64}) {
    for (const std::uint32_t world_size : {1, 2, 3, 4, 7}) {
      SCOPED_TRACE(std::to_string(samples) + " samples, " + std::to_string(world_size) + " ranks");
      std::vector<int> counted(samples, 0);
      for (std::uint32_t rank = 0; rank < world_size; ++rank) {
        const EvaluationShare share(samples, rank, world_size);
        EXPECT_EQ(share.computed, EvaluationShare(samples, 0, world_size).computed);
        EXPECT_LE(share.counted, share.computed);
        EXPECT_GE(share.counted + 1, share.computed);
        for (std::uint64_t i = 0; i < share.computed; ++i) {
          ASSERT_LT(share.sample(i), samples);
          if (i < share.counted) ++counted[share.sample(i)];
        }
      }
      EXPECT_EQ(counted, std::vector<int>(samples, 1));
    }
  }
}

}  // namespace
}  // namespace spillway::trainer::testing
