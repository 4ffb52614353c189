#include "run.h"

#include <fmt/format.h>

#include <spillway/aio/stopwatch.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/pinned_pool/topology.h>
#include <algorithm>
#include <chrono>
#include <limits>

#include "fio.h"
#include "search.h"
#include "table.h"

namespace spillway::aio_bench {
namespace {

using Clock = std::chrono::steady_clock;
using pinned_pool::format_bytes;

constexpr std::uint64_t kFileBytes = std::uint64_t{4} << 30, kQuickFileBytes = 1 << 30;
constexpr std::uint64_t kFreeSpaceShare = 5;  // at most this part of it is taken
constexpr double kFillShare = 0.2;            // of the time
constexpr double kLongestPass = 1.0;          // seconds
constexpr double kExhaustivePass = 0.5;       // seconds
constexpr double kLongestDrainShare =
    1. / 60;  // of the time, for what is in flight at a pass's end
constexpr int kFioPairs = 3;
constexpr double kFioSeconds = 1.0;

Result<std::uint64_t> file_bytes_for(const Target& target, const Options& options) {
  const std::uint64_t free = target.free_bytes();
  if (options.file_bytes == 0) {
    const std::uint64_t wished = options.quick ? kQuickFileBytes : kFileBytes;
    const std::uint64_t whole_mib = free / kFreeSpaceShare >> 20 << 20;
    if (whole_mib >= 64 << 20) return std::min(wished, whole_mib);
    return make_error(ErrorKind::kNoSpace, "measure", target.name(),
                      fmt::format("{} are free, which is too little for a test file of a fifth of "
                                  "it: make room or name another directory",
                                  format_bytes(free)));
  }
  if (free >= options.file_bytes) return options.file_bytes;
  return make_error(ErrorKind::kNoSpace, "measure", target.name(),
                    fmt::format("{} are free, the test file needs {}: give a smaller --file-size "
                                "or another directory",
                                format_bytes(free), format_bytes(options.file_bytes)));
}

std::string file_choice(const Options& options, const TestFile& test, std::uint64_t wished) {
  const std::string size = format_bytes(test.size_bytes());
  if (test.size_bytes() < wished) {
    return fmt::format("{}: what the drive took in a fifth of the time, of {}", size,
                       format_bytes(wished));
  }
  if (options.file_bytes > 0) return size + ", as asked";
  if (wished == (options.quick ? kQuickFileBytes : kFileBytes)) {
    return size + ", more than the cache in most drives; direct, does not compress";
  }
  return size + ": a fifth of the free space; a cache in the drive may hold it all";
}

class TargetRun {
 public:
  TargetRun(const Options& options, Progress& progress, const Target& target,
            const std::vector<double>& speeds)
      : options_(options), progress_(progress), speeds_(speeds) {
    report_.target = target;
    report_.read_percent = options.read_percent;
  }

  Result<Report> run() {
    auto settings = settings_of(options_);
    settings.push_back(kPlainSetting);
    const auto near_drives = pinned_pool::place_io(report_.target.directories);
    auto buffers = Buffers::create(settings, pattern_, near_drives.numa_node);
    if (!buffers) return tl::unexpected(buffers.error());
    settings.pop_back();
    auto engine = try_engine(options_.backend, *buffers);
    if (!engine) return tl::unexpected(engine.error());
    report_.engine = *engine;
    if (near_drives.numa_node >= 0) {
      report_.engine.notes.push_back("threads and buffers near the drive: " + near_drives.reason);
    }
    print_card(report_);
    auto test = make_file(settings);
    if (!test) return tl::unexpected(test.error());
    const Rig rig{.test = *test,
                  .pattern = pattern_,
                  .buffers = *buffers,
                  .backend = options_.backend,
                  .check = options_.verify ? Check::kAll : Check::kStamps,
                  .read_percent = options_.read_percent,
                  .cpus = near_drives.cpus};
    if (auto done = measure(rig, std::move(settings)); !done) return tl::unexpected(done.error());
    return report_;
  }

 private:
  Result<TestFile> make_file(const std::vector<Setting>& settings) {
    auto bytes = file_bytes_for(report_.target, options_);
    if (!bytes) return tl::unexpected(bytes.error());
    wished_file_bytes_ = *bytes;
    std::uint32_t stripe = Pattern::kPeriodBytes;
    for (const Setting& one : settings) stripe = std::max(stripe, one.block_size_bytes);
    auto test = TestFile::create(report_.target.directories, *bytes, stripe, speeds_);
    if (!test || !report_.target.striped()) return test;
    std::string shares;
    for (const std::uint32_t weight : test->stripes().weights()) {
      shares += (shares.empty() ? "" : " : ") + std::to_string(weight);
    }
    report_.notes.push_back(fmt::format("stripes of {}, dealt {} by the speeds measured alone",
                                        short_size(stripe), shares));
    return test;
  }

  Result<void> measure(const Rig& rig, std::vector<Setting> settings) {
    const bool all_of_it = options_.file_bytes > 0;
    progress_.show("filling the test file", options_.exhaustive ? std::nullopt : seconds_left());
    auto rate = fill(
        rig, all_of_it ? std::numeric_limits<double>::infinity() : kFillShare * options_.seconds);
    if (!rate) return tl::unexpected(rate.error());
    report_.fill_gb_per_second = *rate / 1e9;
    report_.file_bytes = rig.test.size_bytes();
    report_.file_choice = file_choice(options_, rig.test, wished_file_bytes_);
    leave_out(settings, *rate);
    if (auto done = look_for_the_best(rig, settings); !done) return done;
    if (options_.verify) {
      progress_.show("checking every byte of the test file");
      if (auto sound = verify(rig); !sound) return sound;
    }
    if (options_.fio) return pair_with_fio(rig);
    return {};
  }

  // What holds more in flight than the file can take, or than this drive moves in a moment.
  void leave_out(std::vector<Setting>& settings, double bytes_per_second) {
    const double drain = options_.seconds * kLongestDrainShare * bytes_per_second;
    const auto too_large = [&](const Setting& one) {
      const std::uint64_t bytes = one.in_flight_bytes();
      return kFileBytesPerByteInFlight * bytes > report_.file_bytes ||
             (!options_.settings_given && static_cast<double>(bytes) > drain);
    };
    const Setting smallest = *std::ranges::min_element(settings, is_smaller);
    const std::size_t left_out = std::erase_if(settings, too_large);
    if (settings.empty()) settings.push_back(smallest);
    report_.settings_tried = settings.size();
    if (left_out > 0) {
      report_.notes.push_back(
          fmt::format("{} settings hold more in flight than a drive that writes {} GB/s, or "
                      "this file, has a use for: left out",
                      left_out, rate_text(bytes_per_second / 1e9)));
    }
  }

  std::optional<double> seconds_left() const { return options_.seconds - seconds_since(start_); }

  Result<void> look_for_the_best(const Rig& rig, const std::vector<Setting>& settings) {
    const SearchOptions wanted{.settings = settings,
                               .workloads = options_.workloads,
                               .seconds = options_.seconds - seconds_since(start_),
                               .pass_seconds = options_.exhaustive ? kExhaustivePass : kLongestPass,
                               .repetitions = options_.repetitions,
                               .exhaustive = options_.exhaustive};
    const Clock::time_point since = Clock::now();
    const SearchWorld world{
        .measure = [&](Workload workload, const Setting& setting,
                       double seconds) { return run_pass(rig, workload, setting, seconds); },
        .seconds_used = [&] { return seconds_since(since); },
        .progress = [&](const std::string& what,
                        double left) { progress_.show("measuring: " + what, left); }};
    auto results = search(wanted, world);
    if (!results) return tl::unexpected(results.error());
    report_.results = std::move(*results);
    int outliers = 0;
    for (const CellResult& one : report_.results) outliers += one.outliers;
    if (outliers > 0) {
      report_.notes.push_back(fmt::format(
          "{} pass{} far from the others of the same setting, measured again and dropped", outliers,
          outliers == 1 ? "" : "es"));
    }
    report_.recommendation = recommend(report_.results, ranking_workload(options_.workloads));
    return {};
  }

  // In turn, so that what the machine does meanwhile touches both.
  Result<void> pair_with_fio(const Rig& measured) {
    Rig rig = measured;
    rig.check = Check::kNone;  // fio writes what it likes
    std::vector<Setting> settings = {report_.recommendation.setting};
    if (report_.recommendation.best != settings.front()) {
      settings.push_back(report_.recommendation.best);
    }
    for (const Setting& setting : settings) {
      if (!fio_has_huge_pages(setting)) {
        report_.fio_note =
            "fio had small pages only: reserve some with 'sysctl vm.nr_hugepages=256' to compare "
            "like with like";
      }
      for (const Workload workload : options_.workloads) {
        report_.fio.push_back({.workload = workload, .setting = setting});
      }
    }
    for (int pair = 1; pair <= kFioPairs; ++pair) {
      for (FioPairs& one : report_.fio) {
        progress_.show(fmt::format("beside fio, pair {} of {}", pair, kFioPairs));
        auto ours = run_pass(rig, one.workload, one.setting, kFioSeconds);
        if (!ours) return tl::unexpected(ours.error());
        auto theirs =
            run_fio(rig.test, one.workload, one.setting, options_.read_percent, kFioSeconds);
        if (!theirs) {  // its failure is no reason to lose what was measured
          report_.fio.clear();
          report_.fio_note = theirs.error().message();
          return {};
        }
        one.engine_gb_per_second.push_back(ours->gb_per_second());
        one.fio_gb_per_second.push_back(*theirs);
      }
    }
    return {};
  }

  const Options& options_;
  Progress& progress_;
  const std::vector<double>& speeds_;
  Report report_;
  const Pattern pattern_;
  const Clock::time_point start_ = Clock::now();
  std::uint64_t wished_file_bytes_ = 0;
};

}  // namespace

Result<Report> measure_target(const Target& target, const std::vector<double>& speeds,
                              const Options& options, Progress& progress) {
  return TargetRun(options, progress, target, speeds).run();
}

}  // namespace spillway::aio_bench
