// Shared by the tests of saved tiles: a store of three segments, and a look at what was saved.
#pragma once

#include <gmock/gmock.h>
#include <spillway/swapper/saved_tiles.h>
#include <sys/stat.h>

#include "store_fixture.h"

namespace spillway::swapper {

inline const Layout kSavedLayout({{"keys", 2}, {"scale", 4, 256}});
inline constexpr PlaneRange kSavedPlanes{.first = 0, .count = 2};
// The fourth is of another size. The segments have two, three and one.
inline const std::vector<std::uint64_t> kSavedElements{20'000, 20'000, 20'000, 77, 20'000, 20'000};

inline std::unique_ptr<TileStore> make_saved_store(aio::Engine& engine,
                                                   const std::filesystem::path& directory,
                                                   TileStoreOptions options = {}) {
  options.directories = {directory};
  options.segment_bytes = 1 << 16;
  auto created = TileStore::create(engine, kSavedLayout, kSavedElements, options);
  EXPECT_TRUE(created) << created.error().message();
  return std::move(*created);
}

inline void write_all(TileStore& store, std::uint32_t first) {
  for (TileId tile = 0; tile < store.tile_count(); ++tile) {
    EXPECT_TRUE(ok(write_tile(store, tile, kSavedPlanes, first + tile)));
  }
}

// Whether the saved directory has exactly the tiles with these versions (0: not saved).
inline testing::AssertionResult has_versions(aio::Engine& engine,
                                             const std::filesystem::path& directory,
                                             const std::vector<std::uint32_t>& versions) {
  auto saved = SavedTiles::open(engine, directory);
  if (!saved) return testing::AssertionFailure() << saved.error().message();
  for (TileId tile = 0; tile < versions.size(); ++tile) {
    if ((*saved)->contains(tile) != (versions[tile] != 0)) {
      return testing::AssertionFailure() << "tile " << tile << " is there, or is not";
    }
    const auto read = check_tile(**saved, tile, kSavedPlanes, versions[tile]);
    if (read.has_value() != (versions[tile] != 0)) {
      return testing::AssertionFailure()
             << "tile " << tile << ": " << (read ? "can be read" : read.error().message());
    }
  }
  return testing::AssertionSuccess();
}

inline void expect_error(const Result<void>& result, ErrorKind kind, const std::string& text) {
  ASSERT_FALSE(result) << "passed";
  EXPECT_EQ(result.error().kind, kind) << result.error().message();
  EXPECT_THAT(result.error().message(), testing::HasSubstr(text));
}

inline Result<void> try_open(aio::Engine& engine, const std::filesystem::path& directory) {
  auto saved = SavedTiles::open(engine, directory);
  if (!saved) return tl::unexpected(saved.error());
  return {};
}

class SavedTilesTest : public testing::Test {
 protected:
  SavedTilesTest() : engine_(make_engine(aio::BackendKind::kAuto)), saved_(scratch_ / "saved") {
    std::filesystem::create_directory(scratch_ / "swap");
  }
  std::unique_ptr<TileStore> store(TileStoreOptions options = {}) {
    return make_saved_store(*engine_, scratch_ / "swap", std::move(options));
  }
  // A saved directory of all tiles, whose store is gone.
  void save_versions(std::uint32_t first) {
    auto tiles = store();
    write_all(*tiles, first);
    ASSERT_TRUE(ok(save_tiles(*tiles, saved_)));
  }
  // Nothing was made in the scratch directory.
  void expect_nothing_left() {
    for (const std::string& name : names_in(scratch_.path())) {
      EXPECT_EQ(name.find("spillway-save"), std::string::npos) << name;
    }
    EXPECT_FALSE(std::filesystem::exists(saved_));
  }

  Scratch scratch_;
  std::unique_ptr<aio::Engine> engine_;
  const std::filesystem::path saved_;
};

}  // namespace spillway::swapper
