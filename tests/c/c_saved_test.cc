// Saved and freed tiles through the C interface, and all that is refused about them.
#include <spillway/swapper/c/saved.h>

#include <atomic>
#include <thread>

#include "c_fixture.h"

namespace spillway {
namespace {

constexpr std::uint64_t kElements = 10'000;  // of a tile; the last has 1
constexpr std::uint32_t kTiles = 4;
const spillway_plane kPlanes[] = {{"value", 8, 1}, {"scale", 4, 256}};

class CSaved : public CFixture {
 protected:
  void SetUp() override {
    CFixture::SetUp();
    std::filesystem::create_directory(scratch_ / "swap");
    swap_ = (scratch_ / "swap").string();
    saved_path_ = (scratch_ / "saved").string();
    const char* directories[] = {swap_.c_str()};
    auto options = zeroed<spillway_store_options>();
    options.planes = kPlanes;
    options.plane_count = 2;
    options.directories = directories;
    options.directory_count = 1;
    options.element_count = (kTiles - 1) * kElements + 1;
    options.tile_elements = kElements;
    ASSERT_OK(spillway_store_create(engine_, &options, &store_));
    memory_ = lease();
  }
  void TearDown() override {
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory_));
    close_store();
    CFixture::TearDown();
  }
  void close_store() {
    if (store_ != nullptr) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(store_));
    }
    store_ = nullptr;
  }
  void write(std::uint32_t tile, int value) {
    std::memset(memory_of(memory_), value, kBuffer);
    ASSERT_OK(spillway_store_write(store_, tile, memory_));
  }
  void write_all(int value) {
    for (std::uint32_t tile = 0; tile < kTiles; ++tile) write(tile, value + int(tile));
  }
  std::uint64_t storage_bytes() {
    auto info = zeroed<spillway_store_info>();
    EXPECT_STATUS(SPILLWAY_OK, spillway_store_get_info(store_, &info));
    return info.storage_bytes;
  }

  std::string swap_, saved_path_;
  spillway_store* store_ = nullptr;
  spillway_lease* memory_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Backends, CSaved,
                         ::testing::Values(SPILLWAY_BACKEND_IO_URING, SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CSaved, TilesSurviveTheirStore) {
  write_all(10);
  ASSERT_OK(spillway_store_save(store_, saved_path_.c_str(), nullptr));
  write_all(20);
  EXPECT_STATUS(SPILLWAY_BUSY, spillway_store_save(store_, saved_path_.c_str(), nullptr));
  close_store();
  spillway_saved* saved = nullptr;
  ASSERT_OK(spillway_saved_open(engine_, saved_path_.c_str(), &saved));
  auto info = zeroed<spillway_saved_info>();
  ASSERT_OK(spillway_saved_get_info(saved, &info));
  EXPECT_EQ(info.tile_count, kTiles);
  EXPECT_EQ(info.plane_count, 2u);
  EXPECT_EQ(info.tile_bytes, 81'920u + 4'096u);
  for (std::uint32_t tile = 0; tile < kTiles; ++tile) {
    int contains = 0;
    ASSERT_OK(spillway_saved_contains(saved, tile, &contains));
    EXPECT_EQ(contains, 1);
    std::uint64_t elements = 0;
    ASSERT_OK(spillway_saved_tile_elements(saved, tile, &elements));
    EXPECT_EQ(elements, tile == kTiles - 1 ? 1 : kElements);
    std::memset(memory_of(memory_), 0, kBuffer);
    ASSERT_OK(spillway_saved_read(saved, tile, memory_));
    for (std::uint64_t i = 0; i < 8 * elements; ++i) {
      ASSERT_EQ(memory_of(memory_)[i], 10 + tile) << i;
    }
  }
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_engine_destroy(engine_));
  EXPECT_STATUS(SPILLWAY_OK, spillway_saved_close(saved));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_saved_close(saved));
}

TEST_P(CSaved, AFreedTileGivesItsSpaceBack) {
  write_all(10);
  const std::uint64_t before = storage_bytes();
  ASSERT_OK(spillway_store_free(store_, 1));
  EXPECT_EQ(storage_bytes(), before - 86'016);
  EXPECT_STATUS(SPILLWAY_INVALID, spillway_store_read(store_, 1, memory_));
  write(1, 99);
  EXPECT_EQ(storage_bytes(), before);
  ASSERT_OK(spillway_store_read(store_, 1, memory_));
  EXPECT_EQ(memory_of(memory_)[79'999], 99);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_free(store_, kTiles));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_store_free(nullptr, 0));
}

TEST_P(CSaved, OnlySomeTilesAndNotWrittenAgain) {
  write_all(10);
  ASSERT_OK(spillway_store_free(store_, 0));
  const std::uint64_t before = storage_bytes();
  const std::uint32_t tiles[] = {3, 1};
  auto options = zeroed<spillway_save_options>();
  options.tiles = tiles;
  options.tile_count = 2;
  options.read_only = 1;
  ASSERT_OK(spillway_store_save(store_, saved_path_.c_str(), &options));
  EXPECT_EQ(storage_bytes(), before) << "nothing is reserved";
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_write(store_, 1, memory_));
  EXPECT_NE(last_detail().find("not to be written again"), std::string::npos);
  write(0, 30);
  spillway_saved* saved = nullptr;
  ASSERT_OK(spillway_saved_open(engine_, saved_path_.c_str(), &saved));
  for (std::uint32_t tile = 0; tile < kTiles; ++tile) {
    int contains = -1;
    ASSERT_OK(spillway_saved_contains(saved, tile, &contains));
    EXPECT_EQ(contains, tile == 1 || tile == 3);
  }
  EXPECT_STATUS(SPILLWAY_INVALID, spillway_saved_read(saved, 2, memory_));
  ASSERT_OK(spillway_saved_read(saved, 1, memory_));
  EXPECT_EQ(memory_of(memory_)[0], 11);
  EXPECT_STATUS(SPILLWAY_OK, spillway_saved_close(saved));
}

// What would end a C++ program.
TEST_P(CSaved, AStreamOverASavedStoreIsCheckedBeforehand) {
  write_all(10);
  ASSERT_OK(spillway_store_save(store_, saved_path_.c_str(), nullptr));
  const auto run = [&](int access, std::uint32_t plane_count) {
    const spillway_part part{store_, pool_, access, 0, plane_count};
    auto options = zeroed<spillway_stream_options>();
    options.parts = &part;
    options.part_count = 1;
    return spillway_stream_run(
        &options, [](void*, std::uint32_t, const spillway_part_view*) { return 0; }, nullptr,
        nullptr);
  };
  EXPECT_STATUS(SPILLWAY_MISUSE, run(SPILLWAY_ACCESS_WRITE, 1));
  EXPECT_NE(last_detail().find("covers all planes"), std::string::npos) << last_detail();
  EXPECT_STATUS(SPILLWAY_OK, run(SPILLWAY_ACCESS_READ, 1));
  EXPECT_STATUS(SPILLWAY_OK, run(SPILLWAY_ACCESS_READ_WRITE, 0));
  EXPECT_STATUS(SPILLWAY_OK, run(SPILLWAY_ACCESS_WRITE, 1)) << "after a whole write, part of one";
}

TEST_P(CSaved, NeitherBesideAStream) {
  write_all(10);
  struct Context {
    spillway_store* store;
    const char* path;
    int seen;
  } context{store_, saved_path_.c_str(), 0};
  const spillway_part part{store_, pool_, SPILLWAY_ACCESS_READ, 0, 0};
  auto options = zeroed<spillway_stream_options>();
  options.parts = &part;
  options.part_count = 1;
  const auto compute = [](void* opaque, std::uint32_t, const spillway_part_view*) {
    auto* const seen = static_cast<Context*>(opaque);
    EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_save(seen->store, seen->path, nullptr));
    ++seen->seen;
    return 0;
  };
  ASSERT_OK(spillway_stream_run(&options, compute, &context, nullptr));
  EXPECT_EQ(context.seen, int(kTiles));
  EXPECT_FALSE(std::filesystem::exists(saved_path_));
}

TEST_P(CSaved, BesideTransfersOfOtherThreadsIsAStatus) {
  write_all(10);
  std::atomic<bool> stop{false};
  const auto all_expected = [](std::vector<spillway_status> seen) {
    return std::all_of(seen.begin(), seen.end(), [](spillway_status status) {
      return status == SPILLWAY_OK || status == SPILLWAY_IN_USE;
    });
  };
  std::thread reader([&] {
    spillway_lease* memory = lease();
    std::vector<spillway_status> seen;
    while (!stop) seen.push_back(spillway_store_read(store_, 1, memory));
    EXPECT_TRUE(all_expected(seen));
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  });
  std::thread streamer([&] {
    const spillway_part read{store_, pool_, SPILLWAY_ACCESS_READ, 0, 0};
    auto options = zeroed<spillway_stream_options>();
    options.parts = &read;
    options.part_count = 1;
    const auto nothing = [](void*, std::uint32_t, const spillway_part_view*) { return 0; };
    std::vector<spillway_status> seen;
    while (!stop) {
      seen.push_back(spillway_stream_run(&options, nothing, nullptr, nullptr));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(all_expected(seen));
  });
  std::vector<spillway_status> seen;
  for (int i = 0; i < 300; ++i) {
    const std::string path = saved_path_ + std::to_string(i);
    seen.push_back(spillway_store_save(store_, path.c_str(), nullptr));
    if (seen.back() == SPILLWAY_OK) std::filesystem::remove_all(path);
  }
  stop = true;
  reader.join();
  streamer.join();
  EXPECT_TRUE(all_expected(seen));
  ASSERT_OK(spillway_store_save(store_, saved_path_.c_str(), nullptr));
  ASSERT_OK(spillway_store_read(store_, 1, memory_));
  EXPECT_EQ(memory_of(memory_)[0], 11);
}

TEST_P(CSaved, WhatMakesNoSense) {
  write(0, 10);
  const auto refused = [&](spillway_status status, auto change) {
    auto options = zeroed<spillway_save_options>();
    change(options);
    EXPECT_STATUS(status, spillway_store_save(store_, saved_path_.c_str(), &options));
  };
  const std::uint32_t twice[] = {0, 0}, none[] = {kTiles}, unwritten[] = {1};
  const auto with = [](const std::uint32_t* tiles, std::uint32_t count) {
    return [=](spillway_save_options& options) {
      options.tiles = tiles;
      options.tile_count = count;
    };
  };
  refused(SPILLWAY_MISUSE, with(twice, 2));
  refused(SPILLWAY_MISUSE, with(none, 1));
  refused(SPILLWAY_MISUSE, with(nullptr, 1));
  refused(SPILLWAY_INVALID, with(unwritten, 1));
  refused(SPILLWAY_MISUSE, [](auto& options) { options.size = 0; });
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_save(store_, nullptr, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_store_save(nullptr, "x", nullptr));
  EXPECT_FALSE(std::filesystem::exists(saved_path_));
  ASSERT_OK(spillway_store_save(store_, saved_path_.c_str(), nullptr));
  spillway_saved* saved = nullptr;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_open(engine_, nullptr, &saved));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_open(engine_, saved_path_.c_str(), nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_saved_open(nullptr, saved_path_.c_str(), &saved));
  EXPECT_STATUS(SPILLWAY_NOT_FOUND, spillway_saved_open(engine_, swap_.c_str(), &saved));
  EXPECT_EQ(saved, nullptr);
  ASSERT_OK(spillway_saved_open(engine_, saved_path_.c_str(), &saved));
  int contains = 7;
  std::uint64_t elements = 7;
  auto info = zeroed<spillway_saved_info>();
  info.size = 1;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_get_info(saved, &info));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_get_info(saved, nullptr));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_contains(saved, kTiles, &contains));
  EXPECT_EQ(contains, 0);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_contains(saved, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_tile_elements(saved, kTiles, &elements));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_tile_elements(saved, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_saved_read(saved, kTiles, memory_));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_saved_read(saved, 0, nullptr));
  // A handle of another kind.
  auto* const wrong = reinterpret_cast<spillway_saved*>(store_);
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_saved_read(wrong, 0, memory_));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_saved_get_info(wrong, &info));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_saved_contains(nullptr, 0, &contains));
  EXPECT_STATUS(SPILLWAY_OK, spillway_saved_close(saved));
}

}  // namespace
}  // namespace spillway
