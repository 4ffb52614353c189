// The streaming step: tiles of 12 bytes an element are read, updated and written, as in training
// with everything on NVMe; against fio's 50:50 mix beside it and the same update and hash in RAM.
//
//   stream_step [--size-mib 512] [--rounds 5] [--label TEXT] DIRECTORY
//
// Prints Markdown. What a drive limits should move at fio's speed, what the CPU limits should take
// the time of the twin in RAM. After the last round every byte is compared with the twin's.
#include <sys/utsname.h>

#include <spillway/aio/probe.h>
#include <spillway/swapper/block_hash.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/stream_buffers.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "fio_run.h"
#include "tools/fio/fio_job.h"

namespace spillway::bench {
namespace {

using swapper::PartView;

constexpr std::uint64_t kTileElements = std::uint64_t{1} << 20;
const swapper::Layout kWeights({{"param_hi", 2}});
const swapper::Layout kStates({{"param_lo", 2}, {"exp_avg", 4}, {"exp_avg_sq", 4}});

// Where the tiles of one contender lie.
struct Stores {
  std::unique_ptr<swapper::Tier> weights, states;
};

std::uint32_t joined(std::uint16_t hi, std::uint16_t lo) { return std::uint32_t{hi} << 16 | lo; }

// The streams and about the arithmetic of an AdamW update.
void update(const PartView& weights, const PartView& states, const float* gradient,
            std::uint64_t first, std::uint64_t count) {
  auto* hi = reinterpret_cast<std::uint16_t*>(weights.plane(0)) + first;
  auto* lo = reinterpret_cast<std::uint16_t*>(states.plane(0)) + first;
  auto* m = reinterpret_cast<float*>(states.plane(1)) + first;
  auto* v = reinterpret_cast<float*>(states.plane(2)) + first;
  for (std::uint64_t i = 0; i < count; ++i) {
    const float g = gradient[first + i];
    m[i] = 0.9F * m[i] + 0.1F * g;
    v[i] = 0.999F * v[i] + 0.001F * g * g;
    float p = 0;
    const std::uint32_t before = joined(hi[i], lo[i]);
    std::memcpy(&p, &before, sizeof p);
    p -= 1e-3F * (m[i] / (v[i] + 1e-8F) + 0.01F * p);
    std::uint32_t after = 0;
    std::memcpy(&after, &p, sizeof after);
    hi[i] = std::uint16_t(after >> 16);
    lo[i] = std::uint16_t(after);
  }
}

// Hashes what verify and record would, for the twin in RAM.
std::uint64_t hash(const PartView& part, const swapper::Layout& layout, std::uint64_t first,
                   std::uint64_t count) {
  std::uint64_t sum = 0;
  for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
    const std::size_t bytes = layout.planes()[plane].bytes_per_block;
    swapper::BlockHash hash;
    hash.add({part.plane(plane) + first * bytes, count * bytes});
    sum ^= hash.value(count * bytes, first);
  }
  return sum;
}

class Bench {
 public:
  Bench(std::string directory, std::uint64_t size_bytes)
      : directory_(std::move(directory)),
        tiles_(swapper::cut_into_tiles(
            {.total_elements = size_bytes / 12, .tile_elements = kTileElements})),
        gradient_(kTileElements) {
    for (std::size_t i = 0; i < gradient_.size(); ++i) gradient_[i] = 1e-3F * float(i % 977);
    for (const std::uint64_t elements : tiles_) bytes_a_pass_ += 24 * elements;
    fio_bytes_ = bytes_a_pass_ / 2 / options_.block_size_bytes * options_.block_size_bytes;
  }

  Result<void> open() {
    auto taken = swapper::DirectoryLock::acquire(directory_);
    if (!taken) return tl::unexpected(taken.error());
    lock_ = std::move(*taken);
    auto engine = aio::Engine::create(options_);
    if (!engine) return tl::unexpected(engine.error());
    engine_ = std::move(*engine);
    for (auto [layout, pool] : {std::pair(&kWeights, &weight_pool_), {&kStates, &state_pool_}}) {
      const std::size_t bytes = layout->tile_bytes(kTileElements);
      // As many of both as the larger ones need: an item has one of each.
      const std::size_t count =
          swapper::stream_buffers(options_, kStates.tile_bytes(kTileElements));
      auto made = pinned_pool::Pool::create(
          {.buffer_bytes = bytes, .buffer_count = count, .name = "tiles"}, engine_.get());
      if (!made) return tl::unexpected(made.error());
      *pool = std::move(*made);
    }
    return {};
  }

  Result<Stores> on_files(bool checksums, const std::string& name) {
    Stores stores;
    for (auto [layout, tier] :
         {std::pair(&kWeights, &stores.weights), {&kStates, &stores.states}}) {
      auto made =
          swapper::TileStore::create(*engine_, *layout, tiles_,
                                     {.directories = {directory_},
                                      .locks = {lock_},
                                      .name = name + (layout == &kWeights ? "-weights" : "-states"),
                                      .direct = aio::Direct::kRequired,
                                      .checksums = checksums});
      if (!made) return tl::unexpected(made.error());
      *tier = std::move(*made);
    }
    if (auto filled = fill(stores); !filled) return tl::unexpected(filled.error());
    return stores;
  }
  Result<Stores> in_ram() {
    Stores stores;
    for (auto [layout, tier] :
         {std::pair(&kWeights, &stores.weights), {&kStates, &stores.states}}) {
      auto made = swapper::make_ram_tier(*layout, tiles_);
      if (!made) return tl::unexpected(made.error());
      *tier = std::move(*made);
    }
    if (auto filled = fill(stores); !filled) return tl::unexpected(filled.error());
    return stores;
  }
  // One step; `hashed`: hashes by hand, for tiles in RAM.
  Result<swapper::StreamStats> step(Stores& stores, bool hashed) {
    return run(stores, swapper::Access::kReadWrite,
               [&](std::size_t, std::span<const PartView> parts) -> Result<void> {
                 for (std::uint64_t first = 0; first < parts[0].elements();) {
                   const std::uint64_t count =
                       std::min(PartView::kRangeElements, parts[0].elements() - first);
                   for (const PartView& part : parts) {
                     if (auto good = part.verify(first, count); !good) return good;
                   }
                   if (hashed) hash_both(parts, first, count);
                   update(parts[0], parts[1], gradient_.data(), first, count);
                   if (hashed) hash_both(parts, first, count);
                   for (const PartView& part : parts) part.record(first, count);
                   first += count;
                 }
                 return {};
               });
  }

  // Whether both hold the same bytes.
  Result<void> compare(Stores& stores, Stores& twin) {
    auto same = run(stores, swapper::Access::kRead,
                    [&](std::size_t item, std::span<const PartView> parts) -> Result<void> {
                      const auto tile = swapper::TileId(item);
                      for (const PartView& part : parts) {
                        if (auto good = part.verify(0, part.elements()); !good) return good;
                      }
                      if (equal(parts[0], kWeights, *twin.weights, tile) &&
                          equal(parts[1], kStates, *twin.states, tile)) {
                        return {};
                      }
                      return make_error(ErrorKind::kCorrupt, "compare", "",
                                        "tile " + std::to_string(item) + " is not as in RAM");
                    });
    if (!same) return tl::unexpected(same.error());
    return {};
  }

  Result<Run> fio(const aio::File& file) {
    return run_fio(file, fio_bytes_,
                   {.mix = Mix::kHalf,
                    .block_size_bytes = options_.block_size_bytes,
                    .queue_depth = options_.queue_depth,
                    .thread_count = 1});
  }
  // Written once, so that fio reads no holes.
  Result<aio::File> fio_file() {
    const std::uint64_t size = fio_bytes_;
    auto file = aio::File::create(directory_ + "/.stream_step",
                                  {.size_bytes = size, .direct = aio::Direct::kRequired});
    if (!file) return file;
    aio::Buffer buffer = aio::Buffer::allocate(8 << 20);
    std::memset(buffer.data(), 0x5a, buffer.capacity());
    for (std::uint64_t offset = 0; offset < size; offset += buffer.capacity()) {
      auto done =
          engine_
              ->write({.file = &*file,
                       .offset = offset,
                       .size_bytes = std::min<std::uint64_t>(buffer.capacity(), size - offset)},
                      std::move(buffer))
              .wait();
      if (!done.transferred) return tl::unexpected(done.transferred.error());
      buffer = std::move(done.buffer);
    }
    if (auto removed = file->remove(); !removed) return tl::unexpected(removed.error());
    return file;
  }

  double gb_a_pass() const { return double(bytes_a_pass_) / 1e9; }
  const aio::EngineOptions& options() const { return options_; }
  std::size_t buffers() const { return state_pool_->buffer_count(); }

 private:
  static bool equal(const PartView& part, const swapper::Layout& layout, swapper::Tier& twin,
                    swapper::TileId tile) {
    for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
      if (std::memcmp(part.plane(plane), twin.resident(tile, plane),
                      layout.plane_bytes(plane, part.elements())) != 0) {
        return false;
      }
    }
    return true;
  }
  void hash_both(std::span<const PartView> parts, std::uint64_t first, std::uint64_t count) {
    sum_ ^= hash(parts[0], kWeights, first, count) ^ hash(parts[1], kStates, first, count);
  }
  Result<void> fill(Stores& stores) {
    auto filled = run(stores, swapper::Access::kWrite,
                      [&](std::size_t item, std::span<const PartView> parts) -> Result<void> {
                        for (const PartView& part : parts) {
                          const swapper::Layout& layout = &part == &parts[0] ? kWeights : kStates;
                          for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
                            std::memset(part.plane(plane), int(item % 60 + plane),
                                        layout.plane_bytes(plane, part.elements()));
                          }
                          part.record(0, part.elements());
                        }
                        return {};
                      });
    if (!filled) return tl::unexpected(filled.error());
    return {};
  }
  Result<swapper::StreamStats> run(Stores& stores, swapper::Access access,
                                   const swapper::TileStream::Compute& compute) {
    std::vector<swapper::Item> items;
    for (swapper::TileId tile = 0; tile < tiles_.size(); ++tile) {
      const auto part = [&](swapper::Tier* tier, pinned_pool::Pool* pool) {
        return swapper::Part{.tier = tier,
                             .tile = tile,
                             .planes = tier->layout().all(),
                             .access = access,
                             .pool = pool,
                             .checksums = swapper::Checksums::kInCompute};
      };
      items.push_back({part(stores.weights.get(), weight_pool_.get()),
                       part(stores.states.get(), state_pool_.get())});
    }
    return swapper::TileStream::run(items, compute);
  }

  const std::string directory_;
  const std::vector<std::uint64_t> tiles_;
  const aio::EngineOptions options_;
  std::vector<float> gradient_;
  std::uint64_t bytes_a_pass_ = 0, fio_bytes_ = 0;  // the half, in whole blocks
  std::uint64_t sum_ = 0;
  std::shared_ptr<swapper::DirectoryLock> lock_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> weight_pool_, state_pool_;
};

struct Figures {
  std::vector<double> stream, unchecked, fio, ram, ram_hashed;  // seconds a pass
  std::vector<double> drive_idle, compute_waited;               // shares of `stream`
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double ratio(const std::vector<double>& over, const std::vector<double>& under) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < over.size(); ++i) ratios.push_back(over[i] / under[i]);
  return median(ratios);
}

void print_row(const char* what, const std::vector<double>& seconds, double gb) {
  std::printf("| %s | %.3f | %.2f |", what, median(seconds), gb / median(seconds));
  for (const double one : seconds) std::printf(" %.3f", one);
  std::printf(" |\n");
}

void print_figures(const Bench& bench, const Figures& f) {
  const double gb = bench.gb_a_pass();
  std::printf("| a pass | median s | GB/s | every round, s |\n|---|---|---|---|\n");
  print_row("stream, checksums in the update", f.stream, gb);
  print_row("stream, no checksums", f.unchecked, gb);
  print_row("fio, 50:50", f.fio, gb);
  print_row("update in RAM, hashed", f.ram_hashed, gb);
  print_row("update in RAM", f.ram, gb);
  std::printf(
      "\n- moved bytes per second over fio's (median of the rounds' ratios): **%.2f** with "
      "checksums, **%.2f** without\n"
      "- time over update and hash alone: **%.2f**; without checksums over the update alone: "
      "**%.2f**\n"
      "- the drive waited for computing %.0f%%, computing for the drive %.0f%% of the time\n\n",
      ratio(f.fio, f.stream), ratio(f.fio, f.unchecked), ratio(f.stream, f.ram_hashed),
      ratio(f.unchecked, f.ram), 100 * median(f.drive_idle), 100 * median(f.compute_waited));
}

void print_card(const Bench& bench, const std::string& directory, const std::string& label,
                int rounds) {
  const aio::PathProbe probe = aio::probe_path(directory);
  utsname system{};
  uname(&system);
  std::string cpu = fio::output_of("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1");
  std::string commit = fio::output_of("git -C '" SPILLWAY_SOURCE_DIR "' describe --always");
  for (std::string* line : {&cpu, &commit}) *line = line->substr(0, line->find('\n'));
  std::printf("## %s\n\n", label.c_str());
  std::printf("- CPU: %s, %u cores; kernel %s; Spillway %s; %s\n", cpu.c_str(),
              std::thread::hardware_concurrency(), system.release, commit.c_str(),
              fio::version().c_str());
  std::printf("- Filesystem: %s on %s (%s)\n", probe.filesystem.c_str(),
              probe.block_device.empty() ? "no block device" : probe.block_device.c_str(),
              probe.device_model.empty() ? "model unknown" : probe.device_model.c_str());
  std::printf(
      "- A pass reads and writes 12 + 12 bytes of each element, %.2f GB together, nothing cached; "
      "blocks of %u KiB, depth %u, %zu buffers of 10 MiB and of 2 MiB; one thread computes. fio: "
      "the same blocks and depth on a file of its own beside them. %d alternating rounds.\n\n",
      bench.gb_a_pass(), bench.options().block_size_bytes >> 10, bench.options().queue_depth,
      bench.buffers(), rounds);
}

Result<void> measure(Bench& bench, int rounds, Figures& figures) {
  if (auto opened = bench.open(); !opened) return opened;
  auto checked = bench.on_files(true, "checked");
  if (!checked) return tl::unexpected(checked.error());
  auto unchecked = bench.on_files(false, "unchecked");
  if (!unchecked) return tl::unexpected(unchecked.error());
  auto ram = bench.in_ram();
  if (!ram) return tl::unexpected(ram.error());
  auto file = bench.fio_file();
  if (!file) return tl::unexpected(file.error());
  for (int round = 0; round < rounds; ++round) {
    auto stream = bench.step(*checked, false);
    if (!stream) return tl::unexpected(stream.error());
    auto fio = bench.fio(*file);
    if (!fio) return tl::unexpected(fio.error());
    auto plain = bench.step(*unchecked, false);
    if (!plain) return tl::unexpected(plain.error());
    // Every contender takes as many steps: the twin's two are one of the others'.
    auto hashed = bench.step(*ram, true);
    if (!hashed) return tl::unexpected(hashed.error());
    auto bare = bench.step(*ram, false);
    if (!bare) return tl::unexpected(bare.error());
    for (Stores* behind : {&*checked, &*unchecked}) {
      if (auto caught_up = bench.step(*behind, false); !caught_up) {
        return tl::unexpected(caught_up.error());
      }
    }
    figures.stream.push_back(stream->seconds);
    figures.unchecked.push_back(plain->seconds);
    figures.fio.push_back(2 * fio->seconds);  // it moved half as much, but for a part of a block
    figures.ram_hashed.push_back(hashed->seconds);
    figures.ram.push_back(bare->seconds);
    figures.drive_idle.push_back(stream->drive_idle_seconds / stream->seconds);
    figures.compute_waited.push_back((stream->read_wait_seconds + stream->write_wait_seconds) /
                                     stream->seconds);
  }
  if (auto same = bench.compare(*checked, *ram); !same) return same;
  return bench.compare(*unchecked, *ram);
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  using namespace spillway::bench;
  CLI::App app("A read-update-write stream against fio and against the update in RAM.");
  std::string directory;
  std::string label = "The streaming step";
  std::uint64_t size_mib = 512;
  int rounds = 5;
  app.add_option("directory", directory)->required()->check(CLI::ExistingDirectory);
  app.add_option("--label", label, "title of the section");
  app.add_option("--size-mib", size_mib, "of all tiles")->check(CLI::Range(24, 1 << 20));
  app.add_option("--rounds", rounds)->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  if (spillway::fio::version().empty()) {
    std::fprintf(stderr, "stream_step: no fio: apt install fio\n");
    return 1;
  }
  Bench bench(directory, size_mib << 20);
  Figures figures;
  if (const auto done = measure(bench, rounds, figures); !done) {
    std::fprintf(stderr, "stream_step: %s\n", done.error().message().c_str());
    return 1;
  }
  print_card(bench, directory, label, rounds);
  print_figures(bench, figures);
  return 0;
}
