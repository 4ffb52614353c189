// Bytes changed behind the store's back, in its open files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>

#include "damage.h"
#include "store_fixture.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

const Layout kLayout({{"param_hi", 2}, {"exp_avg", 4}});
constexpr std::uint64_t kElements = 75'001;  // two checksum blocks a plane and a part of one
constexpr PlaneRange kAll{.first = 0, .count = 2};

class CorruptionTest : public testing::Test {
 protected:
  CorruptionTest() : engine_(make_engine(aio::BackendKind::kAuto)) {
    tiles_ = create({});
    for (TileId tile = 0; tile < 3; ++tile) {
      EXPECT_TRUE(ok(write_tile(*tiles_, tile, kAll, tile)));
    }
  }
  std::unique_ptr<TileStore> create(TileStoreOptions options) {
    options.directories = {directory_.path()};
    auto created = TileStore::create(*engine_, kLayout, {kElements, kElements, kElements}, options);
    EXPECT_TRUE(created) << created.error().message();
    return std::move(*created);
  }
  Scratch directory_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<TileStore> tiles_;
};

TEST_F(CorruptionTest, AFlippedByteIsFoundAndNamed) {
  const std::string path = tiles_->place(1).path;
  for_each_damage(*tiles_, 1, [&](const Damage& damage) {
    const auto read = check_tile(*tiles_, 1, kAll, 1);
    expect_corrupt(read, path);
    expect_corrupt(read, damage.named + ": checksum mismatch, the bytes are not the ones written");
    EXPECT_EQ(read.error().offset, damage.block_offset);
    EXPECT_TRUE(ok(check_tile(*tiles_, 1, {.first = 1 - damage.plane, .count = 1}, 1)))
        << "the other plane is whole";
    EXPECT_TRUE(ok(check_tile(*tiles_, 0, kAll, 0)));
    EXPECT_TRUE(ok(check_tile(*tiles_, 2, kAll, 2)));
  });
  EXPECT_TRUE(ok(check_tile(*tiles_, 1, kAll, 1)));
}

// The padding belongs to nobody: it is in no checksum, and what it holds is never handed out as a
// plane's bytes.
TEST_F(CorruptionTest, ThePaddingIsNotCovered) {
  const TileStore::Place place = tiles_->place(1);
  const std::uint64_t end = place.offset + kLayout.plane_bytes(0, kElements);
  ASSERT_LT(end, place.offset + kLayout.plane_offset(1, kElements));
  flip_byte(place.path, end);
  EXPECT_TRUE(ok(check_tile(*tiles_, 1, kAll, 1)));
}

TEST_F(CorruptionTest, AnotherTilesBytesAreNotThisTiles) {
  const TileStore::Place one = tiles_->place(1);
  const TileStore::Place two = tiles_->place(2);
  std::vector<char> bytes(kLayout.tile_bytes(kElements));
  std::fstream file(one.path, std::ios::in | std::ios::out | std::ios::binary);
  ASSERT_EQ(one.path, two.path);
  file.seekg(std::streamoff(two.offset)).read(bytes.data(), std::streamsize(bytes.size()));
  file.seekp(std::streamoff(one.offset)).write(bytes.data(), std::streamsize(bytes.size()));
  ASSERT_TRUE(file.flush());
  EXPECT_EQ(check_tile(*tiles_, 1, kAll, 1).error().kind, ErrorKind::kCorrupt);
  EXPECT_TRUE(ok(check_tile(*tiles_, 2, kAll, 2)));
}

TEST_F(CorruptionTest, ATruncatedFileIsAnErrorWithTileAndPlane) {
  const TileStore::Place place = tiles_->place(2);
  const std::uint64_t end = place.offset + kLayout.plane_offset(1, kElements) + 4096;
  std::filesystem::resize_file(place.path, end);
  const auto read = check_tile(*tiles_, 2, kAll, 2);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kShortTransfer);
  EXPECT_THAT(read.error().message(), HasSubstr(place.path));
  EXPECT_THAT(read.error().message(), HasSubstr("tile 2, plane exp_avg"));
  EXPECT_TRUE(ok(check_tile(*tiles_, 2, {.first = 0, .count = 1}, 2)));
  std::filesystem::resize_file(place.path, end + kLayout.tile_bytes(kElements));  // zeros now
  EXPECT_EQ(check_tile(*tiles_, 2, kAll, 2).error().kind, ErrorKind::kCorrupt);
}

TEST_F(CorruptionTest, WritingAnewHeals) {
  const TileStore::Place place = tiles_->place(1);
  flip_byte(place.path, place.offset);
  ASSERT_FALSE(check_tile(*tiles_, 1, kAll, 1));
  ASSERT_TRUE(ok(write_tile(*tiles_, 1, kAll, 5)));
  EXPECT_TRUE(ok(check_tile(*tiles_, 1, kAll, 5)));
}

// Shows that it is the checksums that find it, and that the switch does what it says.
TEST_F(CorruptionTest, WithoutChecksumsNothingIsFound) {
  tiles_.reset();
  const auto unchecked = create({.checksums = false});
  ASSERT_TRUE(ok(write_tile(*unchecked, 1, kAll, 1)));
  flip_byte(unchecked->place(1).path, unchecked->place(1).offset);
  EXPECT_EQ(check_tile(*unchecked, 1, kAll, 1).error().detail, "other bytes");
}

}  // namespace
}  // namespace spillway::swapper
