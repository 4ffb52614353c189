// Standardises a data set larger than RAM: makes it, subtracts its mean and divides by its standard
// deviation in place, and checks every value, through a few buffers of pinned memory.
//
//   stream_dataset DIRECTORY [MIB [BUFFER_MIB]]     (2048 through 64; nothing is left behind)
//
// `standardise` is all there is to it. What would be a file format, a decoder or a model in a
// program of yours is `measurement` here.
#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

using namespace spillway;
using swapper::Access, swapper::PartView, swapper::TileId, swapper::TileStream;

struct Task {
  const char* directory = nullptr;
  std::uint64_t values = 0;        // 4 bytes each
  std::uint64_t buffer_bytes = 0;  // all the memory that the data may take
};

struct Outcome {
  double mean = 0;
  double deviation = 0;
  std::uint64_t wrong = 0;  // values that are not what they should be
};

// Value `i` of the data set: 5 and some noise from -8 to 8 (the mixing steps of splitmix64).
float measurement(std::uint64_t i) {
  i = (i ^ (i >> 30)) * 0xbf58476d1ce4e5b9;
  i = (i ^ (i >> 27)) * 0x94d049bb133111eb;
  return 5.0F + static_cast<float>(static_cast<std::int32_t>(i >> 32)) / 268435456.0F;
}

Result<Outcome> standardise(const Task& task) {
  // Four buffers: one is computed on while others are read ahead and written behind.
  const std::uint64_t tile_values = task.buffer_bytes / 4 / sizeof(float);
  const swapper::Layout layout({{.name = "value", .bytes_per_block = sizeof(float)}});

  auto engine = aio::Engine::create({});
  if (!engine) return tl::unexpected(engine.error());
  auto pool = pinned_pool::Pool::create(
      {.buffer_bytes = layout.tile_bytes(tile_values), .buffer_count = 4, .name = "values"},
      engine->get());
  if (!pool) return tl::unexpected(pool.error());
  auto store = swapper::TileStore::create(
      **engine, layout,
      swapper::cut_into_tiles({.total_elements = task.values, .tile_elements = tile_values}),
      {.directories = {task.directory}, .segment_bytes = 1 << 30});
  if (!store) return tl::unexpected(store.error());
  const auto pass = [&](Access access, const TileStream::Visit& visit) {
    return TileStream::for_each_tile(**store, access, **pool, visit);
  };

  Outcome outcome;
  double sum = 0;
  double squares = 0;
  const auto make = [&](TileId tile, const PartView& part) {
    std::uint64_t i = tile * tile_values;
    for (float& value : part.values<float>(0)) {
      value = measurement(i++);
      sum += value;
      squares += double{value} * value;
    }
  };
  const auto standard = [&outcome](float value) {
    return (value - static_cast<float>(outcome.mean)) / static_cast<float>(outcome.deviation);
  };
  const auto scale = [&](TileId, const PartView& part) {
    for (float& value : part.values<float>(0)) {
      value = standard(value);
    }
  };
  const auto check = [&](TileId tile, const PartView& part) {
    std::uint64_t i = tile * tile_values;
    for (const float value : part.values<float>(0)) {
      outcome.wrong += value != standard(measurement(i++));
    }
  };

  if (auto made = pass(Access::kWrite, make); !made) return tl::unexpected(made.error());
  outcome.mean = sum / static_cast<double>(task.values);
  outcome.deviation =
      std::sqrt(squares / static_cast<double>(task.values) - outcome.mean * outcome.mean);
  if (auto scaled = pass(Access::kReadWrite, scale); !scaled) {
    return tl::unexpected(scaled.error());
  }
  if (auto checked = pass(Access::kRead, check); !checked) return tl::unexpected(checked.error());
  return outcome;
}

// Bytes of a whole, positive number of MiB; 0 when `text` is none, or too large a one.
std::uint64_t parse_mib(const char* text) {
  std::uint64_t number = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, number);
  return error == std::errc() && stop == end && number < std::uint64_t{1} << 44 ? number << 20 : 0;
}

int main(int argc, char** argv) {
  Task task{.values = std::uint64_t{1} << 29, .buffer_bytes = std::uint64_t{64} << 20};
  if (argc > 1) task.directory = argv[1];
  if (argc > 2) task.values = parse_mib(argv[2]) / sizeof(float);
  if (argc > 3) task.buffer_bytes = parse_mib(argv[3]);
  if (argc < 2 || argc > 4 || task.values == 0 || task.buffer_bytes == 0) {
    std::fprintf(stderr, "usage: stream_dataset DIRECTORY [MIB [BUFFER_MIB]]\n");
    return 2;
  }
  const auto start = std::chrono::steady_clock::now();
  const Result<Outcome> outcome = standardise(task);
  if (!outcome) {
    std::fprintf(stderr, "stream_dataset: %s\n", outcome.error().message().c_str());
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const std::uint64_t bytes = task.values * sizeof(float);
  std::printf("%s through %s of memory (peak of the process: %s) in %.1f s: %.2f GB/s\n",
              pinned_pool::format_bytes(bytes).c_str(),
              pinned_pool::format_bytes(task.buffer_bytes).c_str(),
              pinned_pool::format_bytes(pinned_pool::memory_usage().peak_resident_bytes).c_str(),
              took.count(), 4.0 * static_cast<double>(bytes) / took.count() / 1e9);
  std::printf("mean %.4f, standard deviation %.4f before; %llu wrong values after\n", outcome->mean,
              outcome->deviation, static_cast<unsigned long long>(outcome->wrong));
  return outcome->wrong == 0 ? 0 : 1;
}
