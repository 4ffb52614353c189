#include "tools/aio_bench/wrapped.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway::aio_bench {
namespace {

using ::testing::ElementsAre;

TEST(Wrapped, BreaksAtSpacesAndKeepsWhatFits) {
  EXPECT_THAT(wrapped("", 10), ElementsAre(""));
  EXPECT_THAT(wrapped("0123456789", 10), ElementsAre("0123456789"));
  EXPECT_THAT(wrapped("one two three", 7), ElementsAre("one two", "three"));
  EXPECT_THAT(wrapped("one two three", 6), ElementsAre("one", "two", "three"));
}

TEST(Wrapped, CutsALongWordBetweenCharacters) {
  EXPECT_THAT(wrapped("a /mnt/long/path b", 6), ElementsAre("a", "/mnt/l", "ong/pa", "th b"));
  EXPECT_THAT(wrapped("\xc3\xa4\xc3\xa4\xc3\xa4", 2), ElementsAre("\xc3\xa4\xc3\xa4", "\xc3\xa4"));
}

}  // namespace
}  // namespace spillway::aio_bench
