#include "pass.h"

#include <sys/resource.h>

#include <spillway/aio/stopwatch.h>
#include <algorithm>
#include <chrono>
#include <utility>

#include "interrupt.h"

namespace spillway::aio_bench {
namespace {

using Clock = std::chrono::steady_clock;

// A file shorter than this is no test, however slow the drive.
constexpr std::uint64_t kLeastBytes = 16 << 20;
// How much of a pass may go before its queues are full.
constexpr double kWarmUpShare = 0.25;

double cpu_seconds_so_far() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Result<void> not_interrupted() {
  if (interrupted_by() == 0) return {};
  return make_error(ErrorKind::kCancelled, "measure", "", "interrupted");
}

Result<std::unique_ptr<aio::Engine>> make_engine(const Rig& rig, const Setting& setting) {
  auto engine = aio::Engine::create({.backend = rig.backend,
                                     .block_size_bytes = setting.block_size_bytes,
                                     .queue_depth = setting.queue_depth,
                                     .thread_count = setting.thread_count,
                                     .measure_latency = true,
                                     .cpus = rig.cpus});
  if (!engine) return engine;
  for (const aio::File& file : rig.test.files()) (*engine)->register_file(file);
  // If it is unavailable, the card has said so.
  (void)(*engine)->register_memory(rig.buffers.memory_of(plan_for(setting).count));
  return engine;
}

// The engine's and the process's counters at one moment.
struct Snapshot {
  aio::EngineStats stats;
  double cpu_seconds = 0;
  Clock::time_point time;

  static Snapshot of(const aio::Engine& engine) {
    return {engine.stats(), cpu_seconds_so_far(), Clock::now()};
  }
};

Measurement between(const Snapshot& a, const Snapshot& b) {
  return {.seconds = std::chrono::duration<double>(b.time - a.time).count(),
          .cpu_seconds = b.cpu_seconds - a.cpu_seconds,
          .read_bytes = b.stats.read_bytes - a.stats.read_bytes,
          .written_bytes = b.stats.written_bytes - a.stats.written_bytes,
          .system_calls = b.stats.system_calls - a.stats.system_calls};
}

// Deals requests out to reads and writes so that the share of reads is right at every moment.
class Dealer {
 public:
  Dealer(Workload workload, int read_percent)
      : read_percent_(workload == Workload::kRead    ? 100
                      : workload == Workload::kWrite ? 0
                                                     : read_percent) {}
  bool next_is_read() {
    owed_ += read_percent_;
    if (owed_ < 100) return false;
    owed_ -= 100;
    return true;
  }

 private:
  const int read_percent_;
  int owed_ = 0;
};

// One step of a pass: another request, or the end of the oldest.
class Driver {
 public:
  Driver(const Rig& rig, Workload workload, RequestStream& stream)
      : test_(rig.test), stream_(stream), dealer_(workload, rig.read_percent) {
    if (workload != Workload::kRead) pass_ = test_.next_pass();
    // Apart from each other, as the reads and the writes of an optimizer step are.
    if (workload == Workload::kMix && test_.read_from == test_.write_from) {
      test_.write_from = test_.size_bytes() / 2 / Pattern::kPageBytes * Pattern::kPageBytes;
    }
  }
  Result<void> step() {
    if (auto go_on = not_interrupted(); !go_on) return go_on;
    if (stream_.full()) return stream_.finish_oldest();
    if (dealer_.next_is_read()) {
      stream_.read(test_.read_from);
    } else {
      stream_.write(test_.write_from, pass_);
    }
    return {};
  }

 private:
  TestFile& test_;
  RequestStream& stream_;
  Dealer dealer_;
  std::uint32_t pass_ = 0;
};

Result<Measurement> measure(const Rig& rig, Workload workload, const Setting& setting,
                            double seconds, aio::Engine& engine) {
  RequestStream stream(rig.test, rig.pattern, rig.buffers, engine, plan_for(setting), rig.check);
  Driver driver(rig, workload, stream);
  const auto moved = [&] {
    const aio::EngineStats stats = engine.stats();
    return stats.read_bytes + stats.written_bytes;
  };
  const auto begin = Clock::now();
  const double warm_up = kWarmUpShare * seconds;
  while (!stream.full() ||
         (moved() < setting.in_flight_bytes() && seconds_since(begin) < warm_up)) {
    if (auto done = driver.step(); !done) return tl::unexpected(done.error());
  }
  // A slow drive's queues fill late: the measured time counts from here, and all that is in flight
  // goes by once, for such drives complete in bursts.
  const Snapshot first = Snapshot::of(engine);
  const std::uint64_t moved_before = moved();
  while (seconds_since(first.time) < (1 - kWarmUpShare) * seconds ||
         moved() - moved_before < setting.in_flight_bytes()) {
    if (auto done = driver.step(); !done) return tl::unexpected(done.error());
  }
  const Snapshot last = Snapshot::of(engine);
  if (auto done = stream.finish_all(); !done) return tl::unexpected(done.error());
  Measurement measured = between(first, last);
  // Of all operations of the pass, the few before and after the measured time too.
  aio::LatencyHistogram latency = engine.latency(aio::Direction::kRead);
  latency += engine.latency(aio::Direction::kWrite);
  const auto us = [](std::chrono::nanoseconds ns) { return static_cast<double>(ns.count()) / 1e3; };
  measured.p50_us = us(latency.percentile(0.50));
  measured.p99_us = us(latency.percentile(0.99));
  return measured;
}

}  // namespace

Result<Measurement> run_pass(const Rig& rig, Workload workload, const Setting& setting,
                             double seconds) {
  auto engine = make_engine(rig, setting);
  if (!engine) return tl::unexpected(engine.error());
  auto measured = measure(rig, workload, setting, seconds, **engine);
  if (!measured || workload == Workload::kRead) return measured;
  if (auto synced = rig.test.sync(); !synced) return tl::unexpected(synced.error());
  return measured;
}

Result<double> fill(const Rig& rig, double seconds) {
  auto engine = make_engine(rig, kPlainSetting);
  if (!engine) return tl::unexpected(engine.error());
  RequestStream stream(rig.test, rig.pattern, rig.buffers, **engine, plan_for(kPlainSetting),
                       Check::kNone);
  const std::uint32_t pass = rig.test.next_pass();
  const auto begin = Clock::now();
  std::uint64_t cursor = 0, written = 0;
  do {
    if (auto go_on = not_interrupted(); !go_on) return tl::unexpected(go_on.error());
    if (stream.full()) {
      if (auto done = stream.finish_oldest(); !done) return tl::unexpected(done.error());
    }
    stream.write(cursor, pass);
    written = cursor == 0 ? rig.test.size_bytes() : cursor;
  } while (cursor != 0 && (seconds_since(begin) < seconds || written < kLeastBytes));
  if (auto done = stream.finish_all(); !done) return tl::unexpected(done.error());
  if (auto synced = rig.test.sync(); !synced) return tl::unexpected(synced.error());
  const double rate = static_cast<double>(written) / seconds_since(begin);
  if (auto cut = rig.test.cut_to(written); !cut) return tl::unexpected(cut.error());
  return rate;
}

Result<void> verify(const Rig& rig) {
  auto engine = make_engine(rig, kPlainSetting);
  if (!engine) return tl::unexpected(engine.error());
  RequestStream stream(rig.test, rig.pattern, rig.buffers, **engine, plan_for(kPlainSetting),
                       Check::kAll);
  std::uint64_t cursor = 0;
  do {
    if (auto go_on = not_interrupted(); !go_on) return go_on;
    if (stream.full()) {
      if (auto done = stream.finish_oldest(); !done) return done;
    }
    stream.read(cursor);
  } while (cursor != 0);
  return stream.finish_all();
}

Result<EngineTrial> try_engine(aio::BackendKind backend, const Buffers& buffers) {
  auto engine = aio::Engine::create({.backend = backend});
  if (!engine) return tl::unexpected(engine.error());
  EngineTrial trial{(*engine)->choice(), buffers.notes()};
  if (auto registered = (*engine)->register_memory(buffers.memory_of(1)); !registered) {
    trial.notes.push_back("registered buffers: no: " + registered.error().message());
  }
  return trial;
}

}  // namespace spillway::aio_bench
