// What is sealed stays what it was: hard links of it never change, whatever its store does next.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/block_checksum.h>
#include <spillway/swapper/cached_tier.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/split_tier.h>
#include <spillway/swapper/tile_store.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <future>
#include <map>

#include "store_fixture.h"
#include "support/gated_backend.h"
#include "support/seed.h"

namespace spillway::swapper {
namespace {

const Layout kLayout({{"param_hi", 2}, {"param_lo", 2}});
constexpr PlaneRange kAll{.first = 0, .count = 2};

struct stat status_of(const std::filesystem::path& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status;
}

std::uint64_t taken_bytes(const std::filesystem::path& path) {
  return std::uint64_t(status_of(path).st_blocks) * 512;
}

// While it lives, no file of this process grows beyond so many bytes.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

class SealTest : public testing::Test {
 protected:
  SealTest() : engine_(make_engine(aio::BackendKind::kAuto)) {
    std::filesystem::create_directory(directory_ / "swap");
    std::filesystem::create_directory(directory_ / "kept");
  }
  std::unique_ptr<TileStore> store(const std::vector<std::uint64_t>& elements, double spare) {
    auto created = TileStore::create(
        *engine_, kLayout, elements,
        {.directories = {directory_ / "swap"}, .segment_bytes = 1 << 17, .spare_fraction = spare});
    EXPECT_TRUE(created) << created.error().message();
    return std::move(*created);
  }
  static std::vector<bool> all(const Tier& tier) {
    return std::vector<bool>(tier.tile_count(), true);
  }

  // A link to a sealed segment, as a checkpoint has it.
  std::filesystem::path link_to(const SealedTile& tile) {
    const std::filesystem::path from = tile.segment->path();
    const auto inode = status_of(from).st_ino;
    const std::filesystem::path link = directory_ / "kept" / std::to_string(inode);
    if (!std::filesystem::exists(link)) std::filesystem::create_hard_link(from, link);
    EXPECT_EQ(status_of(link).st_ino, inode);
    return link;
  }

  // Whether the file has the planes of `version` of the tile, by their bytes and their checksums.
  static testing::AssertionResult has(const std::filesystem::path& path, const SealedTile& tile,
                                      std::uint64_t elements, std::uint32_t version) {
    std::vector<char> bytes(kLayout.tile_bytes(elements));
    std::ifstream file(path, std::ios::binary);
    file.seekg(std::streamoff(tile.offset)).read(bytes.data(), std::streamsize(bytes.size()));
    if (!file) return testing::AssertionFailure() << path << " cannot be read";
    const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
    if (!holds(data, kLayout, elements, kAll, version)) {
      return testing::AssertionFailure() << path << ": other bytes than of version " << version;
    }
    for (std::uint32_t plane = 0; plane < 2; ++plane) {
      const SealedTile::PlaneSums& sums = tile.planes[plane];
      const std::span plane_bytes(data + kLayout.plane_offset(plane, elements),
                                  kLayout.plane_bytes(plane, elements));
      for (std::size_t block = 0; block < sums.values.size(); ++block) {
        const std::size_t start = block * sums.block_bytes;
        const std::size_t size = std::min(sums.block_bytes, plane_bytes.size() - start);
        if (block_checksum(
                {.tile = tile.tile, .plane = plane, .generation = tile.generation, .block = block},
                plane_bytes.subspan(start, size)) != sums.values[block]) {
          return testing::AssertionFailure() << "checksum of block " << block;
        }
      }
    }
    return testing::AssertionSuccess();
  }

  Scratch directory_;
  std::unique_ptr<aio::Engine> engine_;
};

TEST_F(SealTest, ALinkOfASealedSegmentNeverChanges) {
  const std::vector<std::uint64_t> elements{20'000, 20'000, 40'000, 77};
  const auto tiles = store(elements, 0);
  for (TileId tile = 0; tile < 4; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  EXPECT_FALSE(tiles->sealed(0)) << "not yet";
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  std::vector<SealedTile> sealed;
  std::vector<std::filesystem::path> links;
  for (TileId tile = 0; tile < 4; ++tile) {
    ASSERT_TRUE(tiles->sealed(tile));
    sealed.push_back(*tiles->sealed(tile));
    links.push_back(link_to(sealed.back()));
    EXPECT_TRUE(ok(sealed.back().segment->sync()));
    EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, tile))) << "it reads on from there";
  }
  for (std::uint32_t step = 1; step < 6; ++step) {
    for (TileId tile = 0; tile < 4; ++tile) {
      ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, 10 * step + tile)));
      EXPECT_FALSE(tiles->sealed(tile));
      EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, 10 * step + tile)));
    }
    for (TileId tile = 0; tile < 4; ++tile) {
      EXPECT_TRUE(has(links[tile], sealed[tile], elements[tile], tile));
    }
  }
}

TEST_F(SealTest, TheStoreLetsGoOfWhatItNeedsNoMore) {
  const auto tiles = store({20'000, 20'000}, 0);
  for (TileId tile = 0; tile < 2; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  const SealedTile first = *tiles->sealed(0);
  const std::filesystem::path link = link_to(first);
  EXPECT_EQ(status_of(link).st_nlink, 2u);
  for (TileId tile = 0; tile < 2; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, 5)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  EXPECT_EQ(status_of(link).st_nlink, 1u) << "the link alone holds it: removing it frees it";
  EXPECT_TRUE(has(link, first, 20'000, 0));
  const auto files = names_in(directory_ / "swap");
  EXPECT_EQ(files.size(), 3u) << "what is sealed now, what is written next, and the lock";
}

TEST_F(SealTest, TilesThatAreNotRewrittenTakeNoRoom) {
  const auto tiles = store({100'000, 100'000, 100'000}, 0);
  for (TileId tile = 0; tile < 3; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  const std::uint64_t before = tiles->storage_bytes();
  ASSERT_TRUE(ok(tiles->seal({false, true, false})));
  EXPECT_EQ(tiles->storage_bytes(), before + kLayout.tile_bytes(100'000));
  const SealedTile constant = *tiles->sealed(0);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(ok(write_tile(*tiles, 1, kAll, 7)));
    ASSERT_TRUE(ok(tiles->seal({false, true, false})));
    EXPECT_EQ(tiles->storage_bytes(), before + kLayout.tile_bytes(100'000));
    EXPECT_EQ(tiles->sealed(0)->segment, constant.segment) << "every checkpoint has the same file";
    EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 0)));
  }
  EXPECT_DEATH((void)write_tile(*tiles, 0, kAll, 8), "not to be written again");
  ASSERT_TRUE(ok(tiles->seal(all(*tiles)))) << "unless it is said to be after all";
  EXPECT_TRUE(ok(write_tile(*tiles, 0, kAll, 8)));
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 8)));
  EXPECT_TRUE(ok(check_tile(*tiles, 2, kAll, 2)));
}

TEST_F(SealTest, NothingWrittenNothingSealed) {
  const auto tiles = store({5'000, 5'000}, 0);
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  EXPECT_FALSE(tiles->sealed(0));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, {.first = 0, .count = 1}, 3)));
  EXPECT_FALSE(tiles->sealed(0));
}

// A file that is kept takes room for what it holds, not for the places that were free in it.
TEST_F(SealTest, FreePlacesTakeNoRoomInASealedFile) {
  constexpr std::uint64_t kElements = 20'000;  // two of them in a segment
  const auto tiles = store({kElements, kElements}, 1);
  for (TileId tile = 0; tile < 2; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 9)));
  tiles->drop_kept(0);
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  std::map<std::string, std::uint64_t> files;
  for (TileId tile = 0; tile < 2; ++tile) {
    const std::string path = tiles->sealed(tile)->segment->path();
    files[path] = taken_bytes(path);
  }
  std::uint64_t taken = 0;
  for (const auto& [path, bytes] : files) taken += bytes;
  EXPECT_LE(taken, 2 * kLayout.tile_bytes(kElements) + (16 << 10));
}

// Their room was given back for the places that could not be made after all.
TEST_F(SealTest, ASealWithoutRoomLeavesFreePlacesTheirs) {
  constexpr std::uint64_t kElements = 20'000;
  const auto tiles = store({kElements, kElements}, 1);
  for (TileId tile = 0; tile < 2; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 9)));
  tiles->drop_kept(0);  // now each file has places of both kinds
  const auto taken = [&] {
    std::map<std::string, std::uint64_t> bytes;
    for (const std::string& name : names_in(directory_ / "swap")) {
      if (name.ends_with(".seg")) bytes[name] = taken_bytes(directory_ / "swap" / name);
    }
    return bytes;
  };
  const auto before = taken();
  {
    const FileSizeLimit limit(64 << 10);
    const auto sealed = tiles->seal(all(*tiles));
    ASSERT_FALSE(sealed);
    EXPECT_EQ(sealed.error().kind, ErrorKind::kNoSpace) << sealed.error().message();
  }
  EXPECT_EQ(taken(), before);
  EXPECT_FALSE(tiles->sealed(0));
  for (TileId tile = 0; tile < 2; ++tile) {
    ASSERT_TRUE(ok(tiles->keep_generation(tile)));
    ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, 20 + tile)));
    EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, 20 + tile)));
    tiles->drop_kept(tile);
  }
  EXPECT_TRUE(ok(tiles->seal(all(*tiles))));
}

// A drive may still write what nobody waits for any more: not into a file that is sealed.
TEST_F(SealTest, AWriteThatWasDroppedIsWaitedFor) {
  const auto gate = std::make_shared<aio::Gate>();
  auto engine = aio::Engine::create({}, std::make_unique<aio::GatedFactory>(gate));
  ASSERT_TRUE(engine) << engine.error().message();
  engine_ = std::move(*engine);
  const auto tiles = store({5'000}, 0);
  (void)tiles->write(0, kAll, heap_lease(kLayout.tile_bytes(5'000)));
  auto sealed = std::async(std::launch::async, [&] { return tiles->seal({true}); });
  EXPECT_EQ(sealed.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  gate->open = 1'000;
  EXPECT_TRUE(ok(sealed.get()));
  EXPECT_TRUE(tiles->sealed(0));
}

// Any order of writes, kept and dropped generations and seals: the store has the newest bytes, and
// every link what was sealed.
TEST_F(SealTest, EveryLinkKeepsItsVersionsThroughRandomUse) {
  const std::uint64_t seed = test_seed(11);
  std::mt19937_64 draw(seed);
  std::vector<std::uint64_t> elements;
  for (int i = 0; i < 12; ++i) elements.push_back(i % 3 == 0 ? 30'000 : i % 3 == 1 ? 9'000 : 77);
  const auto tiles = store(elements, 1);
  std::vector<std::uint32_t> version(elements.size()), kept(elements.size());
  struct Saved {
    std::filesystem::path link;
    SealedTile tile;
    std::uint64_t elements;
    std::uint32_t version;
  };
  std::vector<Saved> saved;
  std::uint32_t last = 0;
  for (TileId tile = 0; tile < elements.size(); ++tile) {
    ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, version[tile] = ++last)));
  }
  for (int round = 0; round < 400; ++round) {
    const TileId tile = TileId(draw() % elements.size());
    const auto settle = [&](TileId which) {
      if (kept[which] == 0) return;
      if (draw() % 2 == 0) {
        tiles->drop_kept(which);
      } else {
        tiles->roll_back(which);
        version[which] = kept[which];
      }
      kept[which] = 0;
    };
    const auto action = draw() % 20;
    if (action < 8) {
      ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, version[tile] = ++last)));
    } else if (action < 13 && kept[tile] == 0) {
      ASSERT_TRUE(ok(tiles->keep_generation(tile)));
      kept[tile] = version[tile];
    } else if (action < 18) {
      settle(tile);
    } else if (action == 19) {
      for (TileId each = 0; each < elements.size(); ++each) settle(each);
      ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
      for (TileId each = 0; each < elements.size(); ++each) {
        ASSERT_TRUE(tiles->sealed(each));
        saved.push_back(
            {link_to(*tiles->sealed(each)), *tiles->sealed(each), elements[each], version[each]});
      }
    }
    ASSERT_TRUE(ok(check_tile(*tiles, tile, kAll, version[tile]))) << "round " << round;
  }
  ASSERT_GT(saved.size(), 2 * elements.size());
  for (const Saved& one : saved) {
    ASSERT_TRUE(has(one.link, one.tile, one.elements, one.version)) << "seed " << seed;
  }
}

TEST_F(SealTest, TheTilesOfACacheAreSealedBelowIt) {
  const std::vector<std::uint64_t> elements(6, 9'000);
  const std::vector<bool> cached{false, true, false, false, true, false};
  for (const bool split : {true, false}) {
    std::unique_ptr<Tier> tier;
    if (split) {
      tier = make_split_tier(cached, std::move(*make_ram_tier(kLayout, {9'000, 9'000})),
                             store(std::vector<std::uint64_t>(4, 9'000), 0));
    } else {
      auto made = CachedTier::create(store(elements, 0), cached);
      ASSERT_TRUE(made);
      tier = std::move(*made);
    }
    for (int round = 0; round < 2; ++round) {
      for (TileId tile = 0; tile < 6; ++tile) {
        if (!cached[tile]) {
          ASSERT_TRUE(ok(write_tile(*tier, tile, kAll, 10 * round + tile)));
        }
      }
      ASSERT_TRUE(ok(tier->seal(std::vector<bool>(6, true))));
      for (TileId tile = 0; tile < 6; ++tile) {
        const auto sealed = tier->sealed(tile);
        ASSERT_EQ(sealed.has_value(), !cached[tile]) << tile;
        if (sealed) {
          EXPECT_TRUE(has(link_to(*sealed), *sealed, 9'000, 10 * round + tile));
        }
      }
    }
  }
}

TEST_F(SealTest, ADamagedSealedTileIsNotReadAsWhole) {
  const auto tiles = store({20'000}, 0);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  const SealedTile sealed = *tiles->sealed(0);
  const std::filesystem::path link = link_to(sealed);
  flip_byte(link, sealed.offset + 100);
  EXPECT_FALSE(has(link, sealed, 20'000, 1));
  EXPECT_EQ(check_tile(*tiles, 0, kAll, 1).error().kind, ErrorKind::kCorrupt);
}

TEST_F(SealTest, ALinkIsOfTheFileWhateverItsPathNamesByNow) {
  const auto tiles = store({20'000}, 0);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  const SealedTile sealed = *tiles->sealed(0);
  const std::filesystem::path path = sealed.segment->path();
  std::filesystem::rename(path, directory_ / "moved");
  std::ofstream(path) << "of somebody else";
  const int kept = ::open((directory_ / "kept").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_TRUE(ok(sealed.segment->link(kept, "link")));
  EXPECT_TRUE(has(directory_ / "kept" / "link", sealed, 20'000, 1));
  EXPECT_EQ(sealed.segment->link(kept, "link").error().kind, ErrorKind::kBusy) << "taken";
  std::filesystem::remove(directory_ / "moved");
  std::filesystem::remove(directory_ / "kept" / "link");
  EXPECT_EQ(sealed.segment->link(kept, "link").error().kind, ErrorKind::kUnsupported)
      << "a file without any name takes none";
  ::close(kept);
}

TEST_F(SealTest, WhatIsSealedCanBeReadWithoutItsName) {
  auto tiles = store({20'000}, 0);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  const SealedTile sealed = *tiles->sealed(0);
  tiles.reset();
  EXPECT_TRUE(names_in(directory_ / "swap").empty());
  const aio::Buffer buffer = aio::Buffer::allocate(kLayout.tile_bytes(20'000));
  const std::span bytes(buffer.data(), kLayout.tile_bytes(20'000));
  ASSERT_TRUE(ok(sealed.segment->read(sealed.offset, bytes)));
  EXPECT_TRUE(holds(buffer.data(), kLayout, 20'000, kAll, 1));
  EXPECT_FALSE(sealed.segment->read(sealed.offset + (1 << 20), bytes)) << "beyond its end";
}

}  // namespace
}  // namespace spillway::swapper
