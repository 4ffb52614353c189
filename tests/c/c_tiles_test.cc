// Tile stores and streams through the C interface, and all that is refused about them.
#include <functional>
#include <numeric>

#include "c_fixture.h"

namespace spillway {
namespace {

constexpr std::uint64_t kElements = 10'000;  // of a tile; the last has 1
constexpr std::uint32_t kTiles = 9;
const spillway_plane kPlanes[] = {{"value", 8, 1}, {"scale", 4, 256}};

class CTiles : public CFixture {
 protected:
  void SetUp() override {
    CFixture::SetUp();
    directory_ = scratch_.path().string();
    auto options = good_options();
    ASSERT_OK(spillway_store_create(engine_, &options, &store_));
  }
  void TearDown() override {
    if (store_ != nullptr) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(store_));
    }
    EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
    CFixture::TearDown();
  }

  spillway_store_options good_options() {
    auto options = zeroed<spillway_store_options>();
    options.planes = kPlanes;
    options.plane_count = 2;
    directories_[0] = directory_.c_str();
    options.directories = directories_;
    options.directory_count = 1;
    options.element_count = (kTiles - 1) * kElements + 1;
    options.tile_elements = kElements;
    return options;
  }
  spillway_part part(int access) { return {store_, pool_, access, 0, 0}; }

  using Compute = std::function<int(std::uint32_t, const spillway_part_view*)>;
  static spillway_status run(spillway_stream_options options, Compute compute,
                             spillway_stream_stats* stats = nullptr) {
    const auto call = [](void* context, std::uint32_t tile, const spillway_part_view* parts) {
      return (*static_cast<Compute*>(context))(tile, parts);
    };
    return spillway_stream_run(&options, call, &compute, stats);
  }
  static spillway_stream_options over(const spillway_part& part) {
    auto options = zeroed<spillway_stream_options>();
    options.parts = &part;
    options.part_count = 1;
    return options;
  }
  static std::uint64_t* values(const spillway_part_view* view) {
    return static_cast<std::uint64_t*>(view->planes[0]);
  }
  void fill() {
    const spillway_part write = part(SPILLWAY_ACCESS_WRITE);
    ASSERT_OK(run(over(write), [](std::uint32_t tile, const spillway_part_view* view) {
      std::iota(values(view), values(view) + view->elements, tile * kElements);
      std::memset(view->planes[1], static_cast<int>(tile), 4);
      return 0;
    }));
  }

  std::string directory_;
  const char* directories_[1] = {};
  spillway_store* store_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Backends, CTiles,
                         ::testing::Values(SPILLWAY_BACKEND_IO_URING, SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CTiles, AStreamReadsWhatStreamsWrote) {
  fill();
  const spillway_part change = part(SPILLWAY_ACCESS_READ_WRITE);
  ASSERT_OK(run(over(change), [](std::uint32_t, const spillway_part_view* view) {
    for (std::uint64_t i = 0; i < view->elements; ++i) values(view)[i] *= 3;
    return 0;
  }));
  const spillway_part read = part(SPILLWAY_ACCESS_READ);
  std::uint64_t seen = 0;
  auto stats = zeroed<spillway_stream_stats>();
  ASSERT_OK(run(
      over(read),
      [&](std::uint32_t tile, const spillway_part_view* view) {
        EXPECT_EQ(view->elements, tile == kTiles - 1 ? 1 : kElements);
        EXPECT_EQ(view->plane_count, 2u);
        for (std::uint64_t i = 0; i < view->elements; ++i) {
          EXPECT_EQ(values(view)[i], 3 * (tile * kElements + i));
        }
        EXPECT_EQ(*static_cast<unsigned char*>(view->planes[1]), tile);
        seen += view->elements;
        return 0;
      },
      &stats));
  EXPECT_EQ(seen, (kTiles - 1) * kElements + 1);
  EXPECT_GT(stats.compute_seconds, 0);
  auto info = zeroed<spillway_store_info>();
  ASSERT_OK(spillway_store_get_info(store_, &info));
  EXPECT_EQ(info.tile_count, kTiles);
  EXPECT_EQ(info.tile_bytes, 81920u + 4096u);
  EXPECT_GT(info.written_bytes, info.read_bytes / 2);
}

TEST_P(CTiles, TwoStoresUseOneDirectoryUnderTwoNames) {
  fill();
  spillway_store* second = nullptr;
  auto options = good_options();
  EXPECT_STATUS(SPILLWAY_BUSY, spillway_store_create(engine_, &options, &second));
  EXPECT_NE(last_detail().find("has the name 'tiles' in this directory"), std::string::npos)
      << last_detail();
  options.name = "others";
  ASSERT_OK(spillway_store_create(engine_, &options, &second));
  spillway_lease* const memory = lease();
  std::memset(memory_of(memory), 0x11, kBuffer);
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_write(second, 3, memory));
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_read(store_, 3, memory));
  EXPECT_EQ(reinterpret_cast<std::uint64_t*>(memory_of(memory))[5], 3 * kElements + 5);
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_read(second, 3, memory));
  EXPECT_EQ(memory_of(memory)[5], 0x11);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(second));
}

TEST_P(CTiles, SingleTilesComeBackToo) {
  fill();
  spillway_lease* memory = lease();
  ASSERT_OK(spillway_store_read(store_, 5, memory));
  std::size_t offset = 0;
  ASSERT_OK(spillway_store_plane_offset(store_, 5, 1, &offset));
  EXPECT_EQ(memory_of(memory)[offset], 5);
  std::uint64_t first = 0;
  std::memcpy(&first, memory_of(memory), sizeof first);
  EXPECT_EQ(first, 5 * kElements);
  memory_of(memory)[offset] = 77;
  ASSERT_OK(spillway_store_write(store_, 6, memory));
  ASSERT_OK(spillway_store_read(store_, 6, memory));
  EXPECT_EQ(memory_of(memory)[offset], 77);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_read(store_, kTiles, memory));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CTiles, TheComputeFunctionEndsTheStream) {
  fill();
  const spillway_part read = part(SPILLWAY_ACCESS_READ);
  std::uint32_t calls = 0;
  EXPECT_STATUS(SPILLWAY_CANCELLED, run(over(read), [&](std::uint32_t tile, auto*) {
                  ++calls;
                  // Its own store cannot be pulled from under it.
                  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_destroy(store_));
                  return tile == 3 ? 42 : 0;
                }));
  EXPECT_EQ(calls, 4u);
  EXPECT_EQ(last_detail(), "the compute function returned 42 for tile 3");
  // What a C++ program lets fly does not leave either.
  EXPECT_STATUS(SPILLWAY_INTERNAL,
                run(over(read), [](auto...) -> int { throw std::runtime_error("mine"); }));
  EXPECT_EQ(last_detail(), "run stream: mine");
}

TEST_P(CTiles, TilesNeverWrittenAreRefused) {
  const spillway_part read = part(SPILLWAY_ACCESS_READ);
  EXPECT_STATUS(SPILLWAY_INVALID, run(over(read), [](auto...) { return 0; }));
}

TEST_P(CTiles, StreamsThatMakeNoSense) {
  fill();
  const auto refused = [&](std::vector<spillway_part> parts, const char* why,
                           std::vector<std::uint32_t> tiles = {}) {
    auto options = zeroed<spillway_stream_options>();
    options.parts = parts.data();
    options.part_count = static_cast<std::uint32_t>(parts.size());
    options.tiles = tiles.empty() ? nullptr : tiles.data();
    options.tile_count = static_cast<std::uint32_t>(tiles.size());
    EXPECT_STATUS(SPILLWAY_MISUSE, run(options, [](auto...) { return 0; }));
    EXPECT_NE(last_detail().find(why), std::string::npos) << last_detail();
  };
  const spillway_part good = part(SPILLWAY_ACCESS_READ_WRITE);
  auto bad = good;
  refused({}, "no parts");
  bad.first_plane = 2;
  refused({bad}, "exceed the 2");
  bad = good;
  bad.plane_count = 3;
  refused({bad}, "exceed the 2");
  bad = good;
  bad.access = 9;
  refused({bad}, "access is 9");
  refused({good, good}, "in two parts");
  refused({good}, "there twice", {1, 2, 1});
  refused({good}, "does not exist", {kTiles});
  auto read = part(SPILLWAY_ACCESS_READ);
  refused({read, read, read, read, read}, "exceed the buffers");
  auto options = over(good);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_stream_run(&options, nullptr, nullptr, nullptr));
  bad = good;
  bad.pool = nullptr;
  options = over(bad);
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, run(options, [](auto...) { return 0; }));
}

TEST_P(CTiles, StoresThatMakeNoSense) {
  spillway_store* store = nullptr;
  const auto refused = [&](spillway_status status, auto change) {
    auto options = good_options();
    options.name = "second";
    change(options);
    EXPECT_STATUS(status, spillway_store_create(engine_, &options, &store));
    EXPECT_EQ(store, nullptr);
  };
  refused(SPILLWAY_BUSY, [](auto& options) { options.name = "tiles"; });  // of the first store
  refused(SPILLWAY_MISUSE, [](auto& options) { options.planes = nullptr; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.plane_count = 0; });
  const spillway_plane nameless{nullptr, 1, 1}, empty{"x", 0, 1};
  const spillway_plane twins[] = {{"x", 1, 1}, {"x", 2, 1}};
  const spillway_plane huge{"x", UINT32_MAX, 1};
  const auto with = [&](const spillway_plane* planes, std::uint32_t count) {
    return [=](spillway_store_options& options) {
      options.planes = planes;
      options.plane_count = count;
    };
  };
  refused(SPILLWAY_MISUSE, with(&nameless, 1));
  refused(SPILLWAY_MISUSE, with(&empty, 1));
  refused(SPILLWAY_MISUSE, with(twins, 2));
  refused(SPILLWAY_MISUSE, [](auto& options) { options.element_count = 0; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.tile_elements = 0; });
  refused(SPILLWAY_MISUSE, [&](auto& options) {
    with(&huge, 1)(options);
    options.element_count = options.tile_elements = UINT64_MAX;
  });
  refused(SPILLWAY_MISUSE, [](auto& options) {
    options.element_count = UINT64_MAX;
    options.tile_elements = 1;
  });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.directories = nullptr; });
  Scratch other;
  const std::string other_name = other.path().string();
  const char* names[] = {other_name.c_str()};
  refused(SPILLWAY_NO_SPACE, [&](auto& options) {
    options.directories = names;
    options.element_count = std::uint64_t{1} << 50;
    options.tile_elements = std::uint64_t{1} << 40;
  });
  const char* nowhere[] = {"/nowhere/at/all"};
  refused(SPILLWAY_NOT_FOUND, [&](auto& options) { options.directories = nowhere; });
}

}  // namespace
}  // namespace spillway
