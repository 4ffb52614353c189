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

TEST(Layout, TilesOfMoreBytesThanAFileHasHaveNoSum) {
  using Elements = std::vector<std::uint64_t>;
  const Layout layout({{"scale", 4, 256}, {"param", 2}});
  EXPECT_EQ(layout.bytes_of_tiles(Elements{}), 0u);
  EXPECT_EQ(layout.bytes_of_tiles(Elements{1, 4096}), 8192u + 4096 + 8192);
  EXPECT_FALSE(layout.bytes_of_tiles(Elements{UINT64_MAX}));
  EXPECT_FALSE(layout.bytes_of_tiles(Elements{1, std::uint64_t{1} << 62}));
  const std::uint64_t large = std::uint64_t{1} << 61;  // 4 EiB and its scales
  EXPECT_TRUE(layout.bytes_of_tiles(Elements{large}));
  EXPECT_FALSE(layout.bytes_of_tiles(Elements{large, large}));
  const Layout sparse({{"mark", 1, UINT32_MAX}});
  EXPECT_FALSE(sparse.bytes_of_tiles(Elements{UINT64_MAX}));
  EXPECT_TRUE(sparse.bytes_of_tiles(Elements{INT64_MAX}));
  const Layout wide({{"page", UINT32_MAX}});
  EXPECT_FALSE(wide.bytes_of_tiles(Elements{std::uint64_t{1} << 32}));
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
