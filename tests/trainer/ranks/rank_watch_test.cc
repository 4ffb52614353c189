// Whom a rank blames when an exchange failed: ranks of one process, over a store in memory.
#include "trainer/ranks/rank_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <memory>
#include <vector>

namespace spillway::trainer {
namespace {

using ::testing::Eq;
using ::testing::HasSubstr;

class RankWatchTest : public ::testing::Test {
 protected:
  void start(std::uint32_t ranks) {
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {  // as if all had come
      store_->set("alive/" + std::to_string(rank), std::vector<std::uint8_t>{'0'});
    }
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      watches_.push_back(std::make_unique<RankWatch>(
          store_,
          RankWatch::Options{.rank = rank, .world_size = ranks, .store_keeper = "the store"}));
    }
  }

  const c10::intrusive_ptr<c10d::HashStore> store_ = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::unique_ptr<RankWatch>> watches_;
};

TEST_F(RankWatchTest, ARankThatEndsIsNamedWithItsReason) {
  start(3);
  watches_[2]->leave("read tile 7: Input/output error\nand more");
  EXPECT_THAT(watches_[0]->blame(), Eq("rank 2 has ended: read tile 7: Input/output error"));
}

TEST_F(RankWatchTest, WhoeverFailsInConsequenceSaysTheSame) {
  start(3);
  watches_[2]->leave("no space");
  const std::string first = watches_[0]->blame();
  watches_[0]->leave("exchange with the other ranks: " + first);
  EXPECT_THAT(watches_[1]->blame(), Eq(first));
}

TEST_F(RankWatchTest, ASilentRankIsNamed) {
  start(3);
  watches_[1]->leave("");  // without a reason, and nothing is heard of it any more
  EXPECT_THAT(watches_[0]->blame(), HasSubstr("rank 1 gives no sign of life"));
}

TEST_F(RankWatchTest, ARankThatLivesAndHasNotComeIsNamed) {
  start(4);
  for (const std::uint32_t rank : {0, 1, 3}) watches_[rank]->enter_exchange();
  EXPECT_THAT(watches_[0]->blame(), Eq("rank 2 lives but has not come"));
}

TEST_F(RankWatchTest, NobodyIsAccusedWhenAllHaveCome) {
  start(2);
  for (const auto& watch : watches_) watch->enter_exchange();
  EXPECT_THAT(watches_[0]->blame(), Eq("all ranks live and have come"));
}

}  // namespace
}  // namespace spillway::trainer
