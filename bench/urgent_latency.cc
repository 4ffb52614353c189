// How long a read waits that somebody needs now, while the drive is full of write-behind.
//
//   urgent_latency [--seconds 5] [--block-kib 1024] [--depth 32] [--runs 3] [DIRECTORY]
//
// A writer keeps 8 requests of 64 MiB in flight; a reader asks for one block, waits for it, and
// asks for the next 2 ms later. In turn: with nothing else going on, as a normal request, as an
// urgent one. Prints Markdown.
#include <unistd.h>

#include <spillway/aio/engine.h>
#include <spillway/aio/probe.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace spillway::bench {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::size_t kWriteBytes = std::size_t{64} << 20;
constexpr std::size_t kWritesPending = 8;
constexpr std::uint64_t kWrittenBytes = 1 << 30;  // the writer goes round in this
constexpr std::uint64_t kReadBytes = 256 << 20;   // the reader reads behind it

struct Options {
  std::string directory = ".";
  int seconds = 5;
  int runs = 3;
  std::uint32_t block_kib = 1024;
  std::uint32_t depth = 32;
};

struct Outcome {
  aio::LatencyHistogram reads;
  double written_gb_per_second = 0;
};

void fill(aio::Buffer& buffer, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  auto* words = reinterpret_cast<std::uint64_t*>(buffer.data());
  for (std::size_t i = 0; i < buffer.capacity() / sizeof *words; ++i) words[i] = random();
}

// Writes until `stop` is set; returns the bytes written, or 0 after a failure.
std::uint64_t keep_writing(aio::Engine& engine, const aio::File& file,
                           const std::atomic<bool>& stop) {
  std::deque<aio::Ticket> pending;
  std::vector<aio::Buffer> free;
  for (std::size_t i = 0; i < kWritesPending; ++i) {
    free.push_back(aio::Buffer::allocate(kWriteBytes));
    fill(free.back(), i);
  }
  std::uint64_t bytes = 0;
  for (std::uint64_t n = 0; !stop || !pending.empty();) {
    if (!stop && !free.empty()) {
      const std::uint64_t offset = n++ * kWriteBytes % kWrittenBytes;
      pending.push_back(engine.write({.file = &file, .offset = offset, .size_bytes = kWriteBytes},
                                     std::move(free.back())));
      free.pop_back();
      continue;
    }
    aio::Completion done = pending.front().wait();
    pending.pop_front();
    if (!done.transferred) return 0;
    if (!stop) bytes += *done.transferred;
    free.push_back(std::move(done.buffer));
  }
  return bytes;
}

// Reads of extents that were never written touch no drive.
Result<void> write_region_to_read(const aio::File& file) {
  auto engine = aio::Engine::create({});
  if (!engine) return tl::unexpected(engine.error());
  auto buffer = aio::Buffer::allocate(kReadBytes);
  fill(buffer, kWritesPending);
  const aio::Completion done =
      (*engine)
          ->write({.file = &file, .offset = kWrittenBytes, .size_bytes = kReadBytes},
                  std::move(buffer))
          .wait();
  if (!done.transferred) return tl::unexpected(done.transferred.error());
  return {};
}

Result<Outcome> measure(const aio::File& file, const Options& options, bool loaded,
                        aio::Priority priority) {
  auto engine = aio::Engine::create(
      {.block_size_bytes = options.block_kib << 10, .queue_depth = options.depth});
  if (!engine) return tl::unexpected(engine.error());
  std::atomic<bool> stop{false};
  std::uint64_t written = 0;
  std::thread writer;
  if (loaded) {
    writer = std::thread([&] { written = keep_writing(**engine, file, stop); });
    std::this_thread::sleep_for(500ms);
  }
  Outcome outcome;
  Result<void> failure;
  const std::size_t block = std::size_t{options.block_kib} << 10;
  auto buffer = aio::Buffer::allocate(block);
  std::mt19937_64 random(1);
  const auto start = steady_clock::now();
  while (failure && steady_clock::now() - start < std::chrono::seconds(options.seconds)) {
    const std::uint64_t offset = kWrittenBytes + random() % (kReadBytes / block) * block;
    const auto asked = steady_clock::now();
    aio::Completion done =
        (*engine)
            ->read({.file = &file, .offset = offset, .size_bytes = block, .priority = priority},
                   std::move(buffer))
            .wait();
    outcome.reads.add(steady_clock::now() - asked);
    if (!done.transferred) failure = tl::unexpected(done.transferred.error());
    buffer = std::move(done.buffer);
    std::this_thread::sleep_for(2ms);
  }
  const std::chrono::duration<double> elapsed = steady_clock::now() - start;
  stop = true;
  if (writer.joinable()) writer.join();
  if (!failure) return tl::unexpected(failure.error());
  outcome.written_gb_per_second = static_cast<double>(written) / 1e9 / (elapsed.count() + 0.5);
  return outcome;
}

void print_row(int run, const char* what, const Outcome& outcome) {
  const auto ms = [](std::chrono::nanoseconds ns) {
    return std::chrono::duration<double, std::milli>(ns).count();
  };
  std::printf("| %d | %s | %llu | %.2f | %.2f | %.2f | %.2f |\n", run, what,
              static_cast<unsigned long long>(outcome.reads.count()),
              ms(outcome.reads.percentile(0.5)), ms(outcome.reads.percentile(0.99)),
              ms(outcome.reads.max()), outcome.written_gb_per_second);
}

Result<void> run(const Options& options) {
  auto file = aio::File::create(
      options.directory + "/.urgent_latency." + std::to_string(getpid()),
      {.size_bytes = kWrittenBytes + kReadBytes, .direct = aio::Direct::kRequired});
  if (!file) return tl::unexpected(file.error());
  if (auto removed = file->remove(); !removed) return removed;
  if (auto written = write_region_to_read(*file); !written) return written;
  const aio::PathProbe probe = aio::probe_path(options.directory);
  std::printf(
      "# A read that somebody waits for, under full write load\n\n"
      "- %s on %s, scheduler %s; blocks of %u KiB, queue_depth %u, one thread\n"
      "- writer: %zu requests of %zu MiB under way; reader: one block at a time, 2 ms apart, %d s "
      "a row\n\n"
      "| run | read | count | p50 ms | p99 ms | max ms | written GB/s meanwhile |\n"
      "|---|---|---|---|---|---|---|\n",
      probe.filesystem.c_str(), probe.block_device.c_str(), probe.scheduler.c_str(),
      options.block_kib, options.depth, kWritesPending, kWriteBytes >> 20, options.seconds);
  struct Row {
    const char* what;
    bool loaded;
    aio::Priority priority;
  };
  for (int i = 1; i <= options.runs; ++i) {
    for (const Row& row : {Row{"alone", false, aio::Priority::kNormal},
                           Row{"normal, under writes", true, aio::Priority::kNormal},
                           Row{"urgent, under writes", true, aio::Priority::kUrgent}}) {
      auto outcome = measure(*file, options, row.loaded, row.priority);
      if (!outcome) return tl::unexpected(outcome.error());
      print_row(i, row.what, *outcome);
    }
  }
  return {};
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  spillway::bench::Options options;
  CLI::App app("How long an urgent read waits behind writes, as Markdown.");
  app.add_option("directory", options.directory, "where the test file is made")
      ->capture_default_str();
  app.add_option("--seconds", options.seconds)->check(CLI::Range(1, 600))->capture_default_str();
  app.add_option("--runs", options.runs)->check(CLI::Range(1, 100))->capture_default_str();
  app.add_option("--block-kib", options.block_kib)
      ->check(CLI::Range(4, 65536))
      ->capture_default_str();
  app.add_option("--depth", options.depth)->check(CLI::Range(1, 4096))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (const auto done = spillway::bench::run(options); !done) {
    std::fprintf(stderr, "urgent_latency: %s\n", done.error().message().c_str());
    return 1;
  }
  return 0;
}
