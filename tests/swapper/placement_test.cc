#include "placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "support/seed.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
const Layout kFloats({{"param", 4}});

std::vector<DirectorySpace> directories(std::vector<std::uint64_t> free_bytes) {
  std::vector<DirectorySpace> spaces;
  for (const std::uint64_t bytes : free_bytes) {
    spaces.push_back({"/drive" + std::to_string(spaces.size()), spaces.size(), bytes});
  }
  return spaces;
}

// Every place lies inside its file, none overlaps another, and the files are no larger than that.
void expect_exact_cover(const Placement& placement, const Layout& layout) {
  std::map<std::uint32_t, std::map<std::uint64_t, std::uint64_t>> ends;  // segment, offset -> end
  for (const PlacedTile& place : placement.places) {
    const std::uint64_t end = place.offset + layout.tile_bytes(place.elements);
    EXPECT_TRUE(ends[place.segment].emplace(place.offset, end).second);
  }
  EXPECT_EQ(ends.size(), placement.segments.size());
  for (const auto& [segment, places] : ends) {
    std::uint64_t expected = 0;
    for (const auto& [offset, end] : places) {
      EXPECT_EQ(offset, expected);
      expected = end;
    }
    EXPECT_EQ(placement.segments[segment].size_bytes, expected);
  }
}

TEST(Placement, CoversSegmentsExactlyForRandomTiles) {
  std::mt19937 random(test_seed(1));
  const Layout layout({{"moment", 1}, {"scale", 4, 256}, {"param", 2}});
  for (int round = 0; round < 50; ++round) {
    std::vector<std::uint64_t> elements(random() % 60);
    for (std::uint64_t& count : elements) count = 1 + random() % 200'000;
    const auto placed = place_tiles(layout, elements, directories({1ull << 40, 1ull << 40}),
                                    {.segment_bytes = kMiB, .spare_fraction = 0.3});
    ASSERT_TRUE(placed) << placed.error().message();
    ASSERT_GE(placed->places.size(), elements.size());
    for (std::size_t i = 0; i < elements.size(); ++i) {
      EXPECT_EQ(placed->places[i].elements, elements[i]);
    }
    expect_exact_cover(*placed, layout);
  }
}

TEST(Placement, NeighboursLieOnDifferentDrives) {
  const std::vector<std::uint64_t> elements(12, kMiB);
  const auto placed =
      place_tiles(kFloats, elements, directories({1ull << 40, 1ull << 40, 1ull << 40}),
                  {.segment_bytes = 64 * kMiB});
  ASSERT_TRUE(placed);
  for (std::size_t tile = 0; tile < elements.size(); ++tile) {
    EXPECT_EQ(placed->segments[placed->places[tile].segment].directory, tile % 3);
  }
}

TEST(Placement, ATileGoesWhereItWillBeDoneSooner) {
  const std::vector<std::uint64_t> elements(16, kMiB);
  auto spaces = directories({1ull << 40, 1ull << 40});
  spaces[0].speed = 200e6;
  spaces[1].speed = 600e6;
  const auto placed = place_tiles(kFloats, elements, spaces, {.segment_bytes = 64 * kMiB});
  ASSERT_TRUE(placed);
  std::vector<std::size_t> drives;
  for (const PlacedTile& place : placed->places) {
    drives.push_back(placed->segments[place.segment].directory);
  }
  // Wherever one looks, four neighbours keep both drives busy for the same time.
  EXPECT_THAT(drives, testing::ElementsAre(1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1));
}

// Uneven sizes too: nobody is done much later than the sum of all speeds allows.
TEST(Placement, UnevenDrivesAreDoneAtTheSameTime) {
  std::mt19937 random(test_seed(2));
  for (int round = 0; round < 20; ++round) {
    auto spaces = directories({1ull << 40, 1ull << 40, 1ull << 40});
    double together = 0;
    for (auto& space : spaces) together += space.speed = 1 + random() % 20;
    std::vector<std::uint64_t> elements(400);
    for (std::uint64_t& count : elements) count = kMiB / 2 + random() % kMiB;
    const auto placed = place_tiles(kFloats, elements, spaces, {.segment_bytes = 64 * kMiB});
    ASSERT_TRUE(placed);
    std::vector<double> bytes(spaces.size(), 0);
    double all = 0;
    for (const Segment& segment : placed->segments) {
      bytes[segment.directory] += double(segment.size_bytes);
      all += double(segment.size_bytes);
    }
    for (std::size_t i = 0; i < spaces.size(); ++i) {
      EXPECT_LT(bytes[i] / spaces[i].speed, 1.05 * all / together);
    }
  }
}

TEST(Placement, AFullDriveLeavesTheRestToTheOthers) {
  const std::vector<std::uint64_t> elements(10, kMiB);  // 4 MiB each
  const auto placed = place_tiles(kFloats, elements, directories({9 * kMiB, 100 * kMiB}),
                                  {.segment_bytes = 8 * kMiB});
  ASSERT_TRUE(placed);
  std::uint64_t on_first = 0;
  for (const Segment& segment : placed->segments) {
    if (segment.directory == 0) on_first += segment.size_bytes;
  }
  EXPECT_EQ(on_first, 8 * kMiB);
}

TEST(Placement, SegmentsReachTheirSizeAndALargerTileHasItsOwn) {
  std::vector<std::uint64_t> elements(20, kMiB);     // 4 MiB each
  elements.insert(elements.begin() + 3, 30 * kMiB);  // 120 MiB
  const auto placed =
      place_tiles(kFloats, elements, directories({1ull << 40}), {.segment_bytes = 64 * kMiB});
  ASSERT_TRUE(placed);
  expect_exact_cover(*placed, kFloats);
  ASSERT_EQ(placed->segments.size(), 3u);
  EXPECT_EQ(placed->segments[0].size_bytes, 64 * kMiB);
  EXPECT_EQ(placed->segments[1].size_bytes, 120 * kMiB);
  EXPECT_EQ(placed->segments[2].size_bytes, 16 * kMiB);
}

TEST(Placement, ATileAsLargeAsASegmentLeavesTheOpenOneOpen) {
  const std::vector<std::uint64_t> elements{kMiB, 2 * kMiB, kMiB};  // 4, 8 and 4 MiB
  const auto placed =
      place_tiles(kFloats, elements, directories({1ull << 40}), {.segment_bytes = 8 * kMiB});
  ASSERT_TRUE(placed);
  expect_exact_cover(*placed, kFloats);
  ASSERT_EQ(placed->segments.size(), 2u);
  EXPECT_EQ(placed->segments[0].size_bytes, 8 * kMiB);
  EXPECT_EQ(placed->segments[1].size_bytes, 8 * kMiB);
}

TEST(Placement, SpareRoomIsAShareOfEachSizeRoundedUp) {
  const std::vector<std::uint64_t> elements{1000, 1000, 1000, 1000, 1000, 77};
  const auto placed = place_tiles(kFloats, elements, directories({1ull << 40}),
                                  {.segment_bytes = kMiB, .spare_fraction = 0.25});
  ASSERT_TRUE(placed);
  std::map<std::uint64_t, int> spare;
  for (std::size_t i = elements.size(); i < placed->places.size(); ++i) {
    ++spare[placed->places[i].elements];
  }
  EXPECT_EQ(spare, (std::map<std::uint64_t, int>{{1000, 2}, {77, 1}}));
}

TEST(Placement, SaysHowMuchIsMissing) {
  const std::vector<std::uint64_t> elements(10, kMiB);
  const auto placed = place_tiles(kFloats, elements, directories({10 * kMiB, 14 * kMiB}),
                                  {.segment_bytes = 64 * kMiB, .spare_fraction = 0.2});
  ASSERT_FALSE(placed);
  EXPECT_EQ(placed.error().kind, ErrorKind::kNoSpace);
  EXPECT_THAT(
      placed.error().message(),
      HasSubstr("10 tiles and 2 spare places take 48.0 MiB, free are 24.0 MiB (/drive0: 10.0 MiB, "
                "/drive1: 14.0 MiB): 24.0 MiB short"));
}

// Together they would take 0 bytes, by arithmetic that wraps around.
TEST(Placement, TilesOfMoreBytesThanAnyStorageHasAreRefused) {
  const std::vector<std::uint64_t> elements(4, std::uint64_t{1} << 60);
  const auto placed = place_tiles(kFloats, elements, directories({kMiB}), {.segment_bytes = kMiB});
  ASSERT_FALSE(placed);
  EXPECT_EQ(placed.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(placed.error().message(), HasSubstr("no storage has them"));
  const std::vector<std::uint64_t> one(1, std::uint64_t{1} << 61);
  EXPECT_FALSE(place_tiles(kFloats, one, directories({kMiB}), {.segment_bytes = kMiB}));
}

TEST(Placement, DirectoriesOfOneFilesystemShareItsSpace) {
  std::vector<DirectorySpace> spaces = directories({30 * kMiB, 30 * kMiB});
  spaces[1].device = spaces[0].device;
  const std::vector<std::uint64_t> elements(10, kMiB);
  const auto placed = place_tiles(kFloats, elements, spaces, {.segment_bytes = 64 * kMiB});
  ASSERT_FALSE(placed);
  EXPECT_THAT(placed.error().message(), HasSubstr("take 40.0 MiB, free are 30.0 MiB"));
}

// Two directories in project 7, one in none, all on one filesystem.
TEST(Placement, DirectoriesOfOneQuotaProjectShareItsLimit) {
  auto three = directories({2 * kMiB, 2 * kMiB, 100 * kMiB});
  for (DirectorySpace& directory : three) directory.device = 5;
  three[0].project = three[1].project = 7;
  const std::vector<std::uint64_t> elements(20, kMiB / 4);  // 1 MiB each
  const auto placed = place_tiles(kFloats, elements, three, {.segment_bytes = kMiB});
  ASSERT_TRUE(placed) << placed.error().message();
  std::map<std::size_t, std::uint64_t> bytes;
  for (const Segment& segment : placed->segments) bytes[segment.directory] += segment.size_bytes;
  EXPECT_EQ(bytes[0] + bytes[1], 2 * kMiB);
  EXPECT_EQ(bytes[2], 18 * kMiB);
}

TEST(Placement, ProjectsTogetherHaveNoMoreThanTheirFilesystem) {
  auto two = directories({10 * kMiB, 10 * kMiB});
  for (DirectorySpace& directory : two) {
    directory.device = 5;
    directory.device_free_bytes = 12 * kMiB;
  }
  two[0].project = 1;
  two[1].project = 2;
  const auto tiles = [&](std::size_t count) {
    return place_tiles(kFloats, std::vector<std::uint64_t>(count, kMiB / 4), two,
                       {.segment_bytes = kMiB});
  };
  EXPECT_TRUE(tiles(12));
  const auto refused = tiles(13);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNoSpace);
  EXPECT_THAT(refused.error().message(), HasSubstr("free are 12.0 MiB"));
  EXPECT_THAT(refused.error().message(), HasSubstr("/drive0: 10.0 MiB in quota project 1"));
}

TEST(Placement, FreeSpaceThatNobodyCountsIsEnough) {
  const std::uint64_t endless = INT64_MAX;
  const auto three = directories({endless, endless, endless});
  EXPECT_TRUE(
      place_tiles(kFloats, std::vector<std::uint64_t>(3, kMiB), three, {.segment_bytes = kMiB}));
}

TEST(Placement, ATileThatNoDriveHoldsAloneIsRefused) {
  const std::vector<std::uint64_t> elements(3, kMiB);
  const auto placed =
      place_tiles(kFloats, elements, directories({6 * kMiB, 6 * kMiB}), {.segment_bytes = kMiB});
  ASSERT_FALSE(placed);
  EXPECT_THAT(placed.error().message(), HasSubstr("no directory has room for one more whole tile"));
}

}  // namespace
}  // namespace spillway::swapper
