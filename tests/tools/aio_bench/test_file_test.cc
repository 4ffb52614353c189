// The test file over several directories: every byte has a place of its own.
#include "tools/aio_bench/test_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "support/scratch.h"

namespace spillway::aio_bench {
namespace {

constexpr std::uint32_t kStripe = Pattern::kPeriodBytes;

class TestFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b"}) {
      directories_.push_back(scratch_ / name);
      std::filesystem::create_directory(directories_.back());
    }
  }
  // How many stripes each file holds; every one at a place of its own, inside its file.
  static std::map<const aio::File*, std::set<std::uint64_t>> places_of(const TestFile& test) {
    std::map<const aio::File*, std::set<std::uint64_t>> places;
    for (std::uint64_t at = 0; at < test.size_bytes(); at += kStripe) {
      const TestFile::Place place = test.place_of(at);
      EXPECT_TRUE(places[place.file].insert(place.offset).second) << at;
      EXPECT_LE(place.offset + kStripe, place.file->size_bytes().value()) << at;
      const TestFile::Place inside = test.place_of(at + 4096);
      EXPECT_EQ(inside.file, place.file);
      EXPECT_EQ(inside.offset, place.offset + 4096);
    }
    return places;
  }

  Scratch scratch_;
  std::vector<std::filesystem::path> directories_;
};

TEST_F(TestFileTest, StripesAreDealtBySpeed) {
  const auto test = TestFile::create(directories_, 31 * kStripe + 4096, kStripe, {1, 3});
  ASSERT_TRUE(test) << test.error().message();
  EXPECT_EQ(test->size_bytes(), 32 * std::uint64_t{kStripe});
  const auto places = places_of(*test);
  EXPECT_EQ(places.at(&test->files()[0]).size(), 8u);
  EXPECT_EQ(places.at(&test->files()[1]).size(), 24u);
}

TEST_F(TestFileTest, WhatIsCutOffIsGivenBack) {
  auto test = TestFile::create(directories_, 32 * kStripe, kStripe, {1, 1});
  ASSERT_TRUE(test) << test.error().message();
  ASSERT_TRUE(test->cut_to(5 * std::uint64_t{kStripe}));
  const auto places = places_of(*test);
  EXPECT_EQ(places.at(&test->files()[0]).size(), 3u);
  EXPECT_EQ(places.at(&test->files()[1]).size(), 2u);
  EXPECT_EQ(test->files()[0].size_bytes().value(), 3 * std::uint64_t{kStripe});
}

TEST_F(TestFileTest, HasNoName) {
  const auto test = TestFile::create(directories_, kStripe, kStripe, {1, 1});
  ASSERT_TRUE(test) << test.error().message();
  for (const auto& directory : directories_) EXPECT_TRUE(std::filesystem::is_empty(directory));
}

}  // namespace
}  // namespace spillway::aio_bench
