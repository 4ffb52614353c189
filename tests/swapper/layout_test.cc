#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/layout.h>

namespace spillway::swapper {
namespace {

using testing::ElementsAre;

TEST(Layout, PlanesFollowEachOtherPadded) {
  const Layout layout({{"param_lo", 2}, {"exp_avg", 4}, {"exp_avg_sq", 4}});
  // 3000 elements: 6000 -> 8192, 12000 -> 12288, 12000 -> 12288.
  EXPECT_EQ(layout.plane_bytes(0, 3000), 6000u);
  EXPECT_EQ(layout.padded_plane_bytes(0, 3000), 8192u);
  EXPECT_EQ(layout.plane_offset(0, 3000), 0u);
  EXPECT_EQ(layout.plane_offset(1, 3000), 8192u);
  EXPECT_EQ(layout.plane_offset(2, 3000), 20480u);
  EXPECT_EQ(layout.plane_offset(2, 3000, 1), 12288u);
  EXPECT_EQ(layout.range_bytes({.first = 1, .count = 2}, 3000), 24576u);
  EXPECT_EQ(layout.tile_bytes(3000), 32768u);
}

TEST(Layout, APartlyFilledBlockIsStoredWhole) {
  const Layout layout({{"moment", 1}, {"scale", 4, 256}});
  EXPECT_EQ(layout.plane_bytes(0, 257), 257u);
  EXPECT_EQ(layout.plane_bytes(1, 256), 4u);
  EXPECT_EQ(layout.plane_bytes(1, 257), 8u);
}

TEST(Layout, ExactMultiplesArePaddedByNothing) {
  const Layout layout({{"param", 4}});
  EXPECT_EQ(layout.padded_plane_bytes(0, 1024), 4096u);
  EXPECT_EQ(layout.padded_plane_bytes(0, 1025), 8192u);
}

TEST(Layout, SizesPast32BitsAreExact) {
  const Layout layout({{"param", 4}});
  EXPECT_EQ(layout.plane_bytes(0, std::uint64_t{1} << 32), std::uint64_t{1} << 34);
}

TEST(Layout, TheLastTileTakesWhatIsLeft) {
  EXPECT_THAT(cut_into_tiles({.total_elements = 25, .tile_elements = 10}), ElementsAre(10, 10, 5));
  EXPECT_THAT(cut_into_tiles({.total_elements = 20, .tile_elements = 10}), ElementsAre(10, 10));
  EXPECT_THAT(cut_into_tiles({.total_elements = 3, .tile_elements = 10}), ElementsAre(3));
  EXPECT_THAT(cut_into_tiles({.total_elements = 0, .tile_elements = 10}), ElementsAre());
}

TEST(LayoutDeathTest, RefusesWhatIsNoLayout) {
  EXPECT_DEATH(Layout({}), "at least one plane");
  EXPECT_DEATH(Layout({{"param", 0}}), "size");
  EXPECT_DEATH(Layout({{"param", 4, 0}}), "elements");
  EXPECT_DEATH(Layout({{"param", 4}, {"param", 2}}), "distinct");
  EXPECT_DEATH(Layout({{"param", 4}}).range_bytes({.first = 0, .count = 2}, 1), "exceeds");
  EXPECT_DEATH(Layout({{"param", 4}}).plane_bytes(1, 1), "no such plane");
  EXPECT_DEATH(Layout({{"a", 4}, {"b", 4}}).plane_offset(0, 1, 1), "before the first one");
  EXPECT_DEATH(cut_into_tiles({.total_elements = 1}), "at least one element");
}

}  // namespace
}  // namespace spillway::swapper
