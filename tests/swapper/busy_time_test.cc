#include "busy_time.h"

#include <gtest/gtest.h>

namespace spillway::swapper {
namespace {

BusyTime::Time at(int seconds) { return BusyTime::Time(std::chrono::seconds(seconds)); }

TEST(BusyTime, CountsOverlapsOnceAndGapsNot) {
  BusyTime busy;
  const std::size_t first = busy.start(at(10));
  const std::size_t second = busy.start(at(11));
  const std::size_t inside = busy.start(at(12));
  busy.end(second, at(15));
  busy.end(inside, at(13));
  EXPECT_EQ(busy.seconds(), 0);  // the first has not ended
  busy.end(first, at(12));
  EXPECT_EQ(busy.seconds(), 5);
  const std::size_t after_a_gap = busy.start(at(20));
  const std::size_t no_time = busy.start(at(21));
  busy.end(no_time, std::nullopt);
  busy.end(after_a_gap, at(22));
  EXPECT_EQ(busy.seconds(), 7);
}

TEST(BusyTimeDeathTest, ATransferEndsOnce) {
  BusyTime busy;
  busy.start(at(1));
  const std::size_t second = busy.start(at(1));
  busy.end(second, at(2));
  EXPECT_DEATH(busy.end(second, at(3)), "ends once");
}

}  // namespace
}  // namespace spillway::swapper
