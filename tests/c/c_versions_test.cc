// Structs of an earlier version of the header still work; what was appended since then.
#include <cstddef>

#include "c_fixture.h"

namespace spillway {
namespace {

// As the first version had them: a program that was compiled with it passes these.
struct FirstEngineOptions {
  std::size_t size;
  std::int32_t backend;
  std::uint32_t block_size_bytes;
  std::uint32_t queue_depth;
  std::uint32_t thread_count;
  std::int32_t single_submit;
  std::uint32_t drain_timeout_ms;
  spillway_log log;
  void* log_context;
};
struct FirstStoreOptions {
  std::size_t size;
  const spillway_plane* planes;
  std::uint32_t plane_count;
  std::uint32_t directory_count;
  const char* const* directories;
  std::uint64_t element_count;
  std::uint64_t tile_elements;
  const char* name;
  std::int32_t direct;
  spillway_log log;
  void* log_context;
};

// The options, with bytes behind them that are none of the library's business.
template <typename First>
struct Framed {
  First options;
  unsigned char behind[64];
  Framed() {
    std::memset(this, 0xff, sizeof *this);
    options = {};
    options.size = sizeof options;
  }
};

TEST(CVersions, OptionsOfTheFirstVersionWork) {
  Scratch scratch;
  Framed<FirstEngineOptions> first_engine;
  first_engine.options.backend = SPILLWAY_BACKEND_THREADS;
  spillway_engine* engine = nullptr;
  ASSERT_OK(spillway_engine_create(reinterpret_cast<const spillway_engine_options*>(&first_engine),
                                   &engine));
  const char* choice = nullptr;
  ASSERT_OK(spillway_engine_choice(engine, &choice));
  EXPECT_EQ(std::string(choice).rfind("threads", 0), 0u) << choice;

  const spillway_plane plane{"bytes", 1, 1};
  const std::string directory = scratch.path().string();
  const char* const directories[] = {directory.c_str()};
  Framed<FirstStoreOptions> first_store;
  first_store.options.planes = &plane;
  first_store.options.plane_count = first_store.options.directory_count = 1;
  first_store.options.directories = directories;
  first_store.options.element_count = 5000;
  first_store.options.tile_elements = 1000;
  spillway_store* store = nullptr;
  ASSERT_OK(spillway_store_create(
      engine, reinterpret_cast<const spillway_store_options*>(&first_store), &store));
  auto info = zeroed<spillway_store_info>();
  ASSERT_OK(spillway_store_get_info(store, &info));
  EXPECT_EQ(info.tile_count, 5u);
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(store));
  EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine));
}

TEST(CVersions, ASizeOfNoVersionIsRefused) {
  spillway_engine* engine = nullptr;
  for (const std::size_t size : {sizeof(FirstEngineOptions) - 8, sizeof(FirstEngineOptions) + 4,
                                 sizeof(spillway_engine_options) - 1}) {
    auto options = zeroed<spillway_engine_options>();
    options.size = size;
    EXPECT_STATUS(SPILLWAY_MISUSE, spillway_engine_create(&options, &engine)) << size;
  }
  auto options = zeroed<spillway_engine_options>();
  options.reserved = 1;
  EXPECT_STATUS(SPILLWAY_UNSUPPORTED, spillway_engine_create(&options, &engine));
  EXPECT_EQ(engine, nullptr);
}

TEST(CLatency, IsMeasuredOnlyWhenAsked) {
  Scratch scratch;
  spillway_file* file = nullptr;
  auto create = zeroed<spillway_create_options>();
  create.size_bytes = 64 << 10;
  ASSERT_OK(spillway_file_create((scratch / "file").c_str(), &create, &file));
  auto latency = zeroed<spillway_latency>();
  for (const int measured : {0, 1}) {
    auto options = zeroed<spillway_engine_options>();
    options.measure_latency = measured;
    options.block_size_bytes = 4096;
    spillway_engine* engine = nullptr;
    ASSERT_OK(spillway_engine_create(&options, &engine));
    std::vector<unsigned char> memory(64 << 10);
    auto io = zeroed<spillway_io>();
    io.file = file;
    io.memory = memory.data();
    io.size_bytes = memory.size();
    spillway_request* request = nullptr;
    ASSERT_OK(spillway_read(engine, &io, &request));
    ASSERT_OK(spillway_wait(request, -1, nullptr));
    const spillway_status read =
        spillway_engine_get_latency(engine, SPILLWAY_DIRECTION_READ, &latency);
    if (measured == 0) {
      EXPECT_STATUS(SPILLWAY_UNSUPPORTED, read);
    } else {
      ASSERT_OK(read);
      EXPECT_GE(latency.count, 16u);
      EXPECT_GT(latency.mean_ns, 0u);
      EXPECT_LE(latency.mean_ns, latency.max_ns);
      EXPECT_LE(latency.p50_ns, latency.p90_ns);
      EXPECT_LE(latency.p90_ns, latency.p99_ns);
      EXPECT_LE(latency.p99_ns, latency.p99_9_ns);
      EXPECT_LE(latency.p99_9_ns, latency.max_ns);
      EXPECT_LT(latency.max_ns, 60'000'000'000u);
      ASSERT_OK(spillway_engine_get_latency(engine, SPILLWAY_DIRECTION_WRITE, &latency));
      EXPECT_EQ(latency.count, 0u);
      EXPECT_EQ(latency.max_ns, 0u);
      EXPECT_STATUS(SPILLWAY_MISUSE, spillway_engine_get_latency(engine, 2, &latency));
      EXPECT_STATUS(SPILLWAY_MISUSE,
                    spillway_engine_get_latency(engine, SPILLWAY_DIRECTION_READ, nullptr));
    }
    EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine));
  }
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE,
                spillway_engine_get_latency(nullptr, SPILLWAY_DIRECTION_READ, &latency));
  EXPECT_STATUS(SPILLWAY_OK, spillway_file_close(file));
}

}  // namespace
}  // namespace spillway
