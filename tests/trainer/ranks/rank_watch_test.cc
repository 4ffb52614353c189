// Whom a rank blames when an exchange failed: ranks of one process, over a board in memory.
#include "trainer/ranks/rank_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/aio/mutex.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer {
namespace {

using ::testing::Eq;
using ::testing::HasSubstr;

struct Texts {
  Mutex mutex;
  CondVar changed;
  std::map<std::string, std::string> by_key SPILLWAY_GUARDED_BY(mutex);
};

class BoardInMemory final : public RankBoard {
 public:
  explicit BoardInMemory(std::shared_ptr<Texts> texts) : texts_(std::move(texts)) {}
  void write(const std::string& key, const std::string& text) override {
    const MutexLock lock(texts_->mutex);
    texts_->by_key[key] = text;
    texts_->changed.notify_all();
  }
  std::vector<std::string> read(const std::vector<std::string>& keys) override {
    MutexLock lock(texts_->mutex);
    std::vector<std::string> found;
    for (const std::string& key : keys) {
      while (!texts_->by_key.contains(key)) texts_->changed.wait(lock);
      found.push_back(texts_->by_key[key]);
    }
    return found;
  }

 private:
  const std::shared_ptr<Texts> texts_;
};

// The process that kept it is gone.
class LostBoard final : public RankBoard {
 public:
  void write(const std::string&, const std::string&) override {
    if (++writes_ > 1) throw std::runtime_error("connection reset by peer\nand a trace");
  }
  std::vector<std::string> read(const std::vector<std::string>& keys) override {
    return std::vector<std::string>(keys.size(), "1 0 lives ");
  }

 private:
  int writes_ = 0;
};

class RankWatchTest : public ::testing::Test {
 protected:
  void start(std::uint32_t ranks) {
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      watches_.push_back(std::make_unique<RankWatch>(
          std::make_unique<BoardInMemory>(texts_),
          RankWatch::Options{.rank = rank, .world_size = ranks, .board_keeper = "the keeper"}));
    }
  }

  const std::shared_ptr<Texts> texts_ = std::make_shared<Texts>();
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

TEST_F(RankWatchTest, ABoardThatIsGoneIsNamedByItsKeeper) {
  RankWatch watch(std::make_unique<LostBoard>(), {.world_size = 2, .board_keeper = "the keeper"});
  EXPECT_THAT(watch.blame(),
              Eq("the keeper is gone, and with it the store (connection reset by peer)"));
}

}  // namespace
}  // namespace spillway::trainer
