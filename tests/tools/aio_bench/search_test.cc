// The search on a simulated drive with a simulated clock: what it finds, and that it keeps its
// time.
#include "tools/aio_bench/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "support/seed.h"
#include "tools/aio_bench/recommend.h"

namespace spillway::aio_bench {
namespace {

using ::testing::SizeIs;

// A drive that needs enough in flight to be busy (Little's law), and a host that spends some time
// on each operation. Passes differ by a few per cent, shorter ones by more.
struct SimulatedDrive {
  double peak_gb_per_second = 6;
  double latency_seconds = 300e-6;
  double seconds_an_operation = 8e-6;
  double noise = 0.02;  // of a pass of one second
  double overhead_seconds = 0.03;
  double slows_down_at = 1e9;  // on the clock: from then on a pass takes two seconds more
  std::mt19937_64 random{1};
  double clock = 0;
  std::size_t passes = 0;

  double true_rate(const Setting& setting) const {
    const double in_flight = static_cast<double>(setting.in_flight_bytes()) / 1e9;
    const double fed = in_flight / (latency_seconds + in_flight / peak_gb_per_second);
    const double host =
        setting.thread_count * setting.block_size_bytes / 1e9 / seconds_an_operation;
    return 1 / (1 / fed + 0.2 / host);
  }
  Result<Measurement> measure(Workload, const Setting& setting, double seconds) {
    ++passes;
    std::normal_distribution<double> error(1, noise / std::sqrt(seconds));
    const double rate = true_rate(setting) * std::clamp(error(random), 0.5, 1.5);
    // What is in flight at the end is waited for.
    if (clock >= slows_down_at) clock += 2;
    clock +=
        seconds + overhead_seconds + static_cast<double>(setting.in_flight_bytes()) / 1e9 / rate;
    return Measurement{.seconds = seconds,
                       .read_bytes = static_cast<std::uint64_t>(rate * seconds * 1e9)};
  }
  SearchWorld world() {
    return {.measure = [this](Workload w, const Setting& s,
                              double seconds) { return measure(w, s, seconds); },
            .seconds_used = [this] { return clock; },
            .progress = [](const std::string&, double) {}};
  }
};

std::vector<Setting> full_grid() {
  auto grid = grid_of({128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20},
                      {1, 2, 4, 8, 16, 32, 64}, {1, 2});
  std::erase_if(grid, [](const Setting& one) { return one.in_flight_bytes() > 128 << 20; });
  return grid;
}

SearchOptions two_minutes() { return {.settings = full_grid(), .seconds = 95, .pass_seconds = 1}; }

TEST(Search, FindsASmallSettingThatIsAsGoodAsTheBest) {
  std::mt19937_64 seeds(test_seed(4711));
  for (int run = 0; run < 40; ++run) {
    SimulatedDrive drive;
    drive.random.seed(seeds());
    drive.noise = run % 2 == 0 ? 0.02 : 0.04;
    drive.peak_gb_per_second = std::uniform_real_distribution<double>(0.5, 14)(drive.random);
    drive.latency_seconds = std::uniform_real_distribution<double>(5e-5, 2e-3)(drive.random);
    const SearchOptions options = two_minutes();
    const auto results = search(options, drive.world());
    ASSERT_TRUE(results);
    const Setting found = recommend(*results, Workload::kMix).setting;

    double best = 0;
    for (const Setting& one : options.settings) best = std::max(best, drive.true_rate(one));
    EXPECT_GE(drive.true_rate(found), 0.94 * best) << text_of(found) << ", run " << run;
    // The ideal one would be the smallest within 3%; noise may double what is in flight twice.
    std::uint64_t ideal = ~std::uint64_t{0};
    for (const Setting& one : options.settings) {
      if (drive.true_rate(one) >= 0.97 * best) ideal = std::min(ideal, one.in_flight_bytes());
    }
    EXPECT_LE(found.in_flight_bytes(), 4 * ideal) << text_of(found) << ", run " << run;
  }
}

TEST(Search, KeepsItsTimeOnADriveOfAnySpeed) {
  for (const double gb_per_second : {0.02, 0.2, 2.0, 20.0}) {
    for (const double seconds : {5.0, 15.0, 95.0}) {
      SimulatedDrive drive;
      drive.peak_gb_per_second = gb_per_second;
      SearchOptions options = two_minutes();
      options.seconds = seconds;
      // As the program does it: nothing that takes longer than a moment to drain.
      std::erase_if(options.settings, [&](const Setting& one) {
        return static_cast<double>(one.in_flight_bytes()) > seconds / 60 * gb_per_second * 1e9;
      });
      if (options.settings.empty()) options.settings = {{128 << 10, 1, 1}};
      const auto results = search(options, drive.world());
      ASSERT_TRUE(results);
      EXPECT_LE(drive.clock, 1.1 * seconds) << gb_per_second << " GB/s";
      EXPECT_GT(recommend(*results, Workload::kMix).gb_per_second, 0);
    }
  }
}

TEST(Search, KeepsItsTimeOnADriveThatSlowsDown) {
  for (const double at : {1.0, 30.0, 60.0, 80.0}) {
    SimulatedDrive drive;
    drive.slows_down_at = at;
    const SearchOptions options = two_minutes();
    const auto results = search(options, drive.world());
    ASSERT_TRUE(results);
    EXPECT_LE(drive.clock, options.seconds + 10) << "slower from second " << at << " on";
  }
}

TEST(Search, MeasuresOneSettingWithEveryWorkloadHoweverShortTheTime) {
  SimulatedDrive drive;
  SearchOptions options = two_minutes();
  options.seconds = 0.001;
  const auto results = search(options, drive.world());
  ASSERT_TRUE(results);
  const Setting found = recommend(*results, Workload::kMix).setting;
  for (const Workload workload : {Workload::kRead, Workload::kWrite, Workload::kMix}) {
    EXPECT_NE(find(*results, workload, found), nullptr) << name_of(workload);
  }
}

TEST(Search, FinalistsAreMeasuredWithAllWorkloadsTheOthersWithTheMixAlone) {
  SimulatedDrive drive;
  const auto results = search(two_minutes(), drive.world());
  ASSERT_TRUE(results);
  std::size_t finalists = 0;
  for (const CellResult& one : *results) {
    if (!one.finalist) {
      EXPECT_EQ(one.workload, Workload::kMix);
      EXPECT_LE(one.repetitions.size(), 2u);
    } else {
      ++finalists;
      EXPECT_GE(one.repetitions.size(), 3u);
    }
  }
  EXPECT_EQ(finalists, 5u * 3);
}

TEST(Search, ExhaustiveMeasuresEverything) {
  SimulatedDrive drive;
  SearchOptions options{.settings = grid_of({1 << 20, 4 << 20}, {1, 8}, {1, 2})};
  options.exhaustive = true;
  options.pass_seconds = 0.5;
  options.repetitions = 3;
  const auto results = search(options, drive.world());
  ASSERT_TRUE(results);
  ASSERT_THAT(*results, SizeIs(8 * 3));
  for (const CellResult& one : *results) {
    EXPECT_TRUE(one.finalist);
    EXPECT_THAT(one.repetitions, SizeIs(3));
    for (const Measurement& m : one.repetitions) EXPECT_EQ(m.seconds, 0.5);
  }
}

// Every finalist's second pass is three times too slow, as when another program wakes up.
TEST(Search, APassThatIsFarFromTheOthersIsMeasuredAgainAndDropped) {
  for (const bool exhaustive : {false, true}) {
    SimulatedDrive drive;
    SearchOptions options = two_minutes();
    options.settings = grid_of({1 << 20, 4 << 20}, {4, 8}, {1});
    options.exhaustive = exhaustive;
    options.repetitions = 4;
    std::map<std::pair<Workload, Setting>, int> passes;
    SearchWorld world = drive.world();
    world.measure = [&](Workload workload, const Setting& setting, double seconds) {
      auto measured = drive.measure(workload, setting, seconds);
      if (++passes[{workload, setting}] == 2) measured->read_bytes /= 3;
      return measured;
    };
    const auto results = search(options, world);
    ASSERT_TRUE(results);
    ASSERT_THAT(*results, SizeIs(4 * 3));
    for (const CellResult& one : *results) {
      EXPECT_EQ(one.outliers, 1) << text_of(one.setting);
      EXPECT_THAT(one.repetitions, SizeIs(4));
      EXPECT_LT(one.spread(), 0.2);
    }
  }
}

TEST(Search, TwoPassesThatDifferAreJudgedByAThird) {
  SimulatedDrive drive;
  SearchOptions options = two_minutes();
  options.settings = {{1 << 20, 8, 1}};
  options.workloads = {Workload::kMix};
  options.repetitions = 2;
  SearchWorld world = drive.world();
  int passes = 0;
  world.measure = [&](Workload workload, const Setting& setting, double seconds) {
    auto measured = drive.measure(workload, setting, seconds);
    if (++passes == 1) measured->read_bytes *= 3;
    return measured;
  };
  const auto results = search(options, world);
  ASSERT_TRUE(results);
  EXPECT_EQ(results->at(0).outliers, 1);
  EXPECT_NEAR(results->at(0).gb_per_second(), drive.true_rate(options.settings[0]), 0.5);
}

TEST(Search, AFailureEndsIt) {
  SimulatedDrive drive;
  SearchWorld world = drive.world();
  int passes = 0;
  world.measure = [&](Workload w, const Setting& s, double seconds) -> Result<Measurement> {
    if (++passes == 7) return make_error(ErrorKind::kIo, "read", "/disk/x", "worn out");
    return drive.measure(w, s, seconds);
  };
  const auto results = search(two_minutes(), world);
  ASSERT_FALSE(results);
  EXPECT_EQ(results.error().path, "/disk/x");
  EXPECT_EQ(passes, 7);
}

CellResult measured(const Setting& setting, double gb_per_second) {
  return {Workload::kMix,
          setting,
          {{.seconds = 1, .read_bytes = static_cast<std::uint64_t>(gb_per_second * 1e9)}},
          true};
}

TEST(Survivors, TheFastestAndTheSmallestThatIsAsGoodTakeTurns) {
  const Setting large{4 << 20, 32, 1}, middle{1 << 20, 32, 1}, small{1 << 20, 4, 1},
      slow{128 << 10, 1, 1};
  const std::vector<CellResult> results = {measured(slow, 1), measured(small, 5.8),
                                           measured(middle, 5.9), measured(large, 6)};
  EXPECT_EQ(survivors(results, 1, 0.1), std::vector{large});
  EXPECT_EQ(survivors(results, 2, 0.1), (std::vector{large, small}));
  EXPECT_EQ(survivors(results, 3, 0.1), (std::vector{large, small, middle}));
  EXPECT_EQ(survivors(results, 9, 0.1), (std::vector{large, small, middle, slow}));
  EXPECT_TRUE(survivors({}, 3, 0.1).empty());
}

TEST(Survivors, ALuckyPassDoesNotThrowTheSmallOnesOut) {
  std::vector<CellResult> results = {measured({4 << 20, 32, 1}, 7)};  // lucky: the drive does 6
  for (std::uint32_t depth = 8; depth <= 64; depth *= 2) {
    results.push_back(measured({1 << 20, depth, 1}, 6));
    results.push_back(measured({2 << 20, depth, 1}, 6));
  }
  results.push_back(measured({1 << 20, 4, 1}, 5.8));
  const auto kept = survivors(results, 3, 0.06);
  EXPECT_EQ(std::ranges::count(kept, Setting{1 << 20, 4, 1}), 1);
}

TEST(Recommend, TheSmallestWithinThreePerCentOfTheBest) {
  const Setting large{4 << 20, 32, 1}, middle{1 << 20, 32, 1}, small{1 << 20, 4, 1};
  auto found = recommend({measured(small, 9.69), measured(middle, 9.71), measured(large, 10)},
                         Workload::kMix);
  EXPECT_EQ(found.setting, middle);  // 97.1%; the small one has 96.9%
  EXPECT_EQ(found.best, large);
  EXPECT_THAT(reason_of(found, 50), ::testing::HasSubstr("2.9% below the fastest (10.0 GB/s"));
  found = recommend({measured(small, 9.6), measured(large, 10)}, Workload::kMix);
  EXPECT_EQ(found.setting, large);
  EXPECT_THAT(reason_of(found, 50), ::testing::HasSubstr("the fastest in the trainer's mix"));
}

CellResult measured(const Setting& setting, const std::vector<double>& rates) {
  CellResult cell{.workload = Workload::kMix, .setting = setting, .finalist = true};
  for (const double rate : rates)
    cell.repetitions.push_back(measured(setting, rate).repetitions[0]);
  return cell;
}

TEST(LoneOutlier, IsFarFromOthersThatAgree) {
  const auto found = [](const std::vector<double>& rates) {
    return lone_outlier(measured({1 << 20, 8, 1}, rates).repetitions);
  };
  EXPECT_EQ(found({10, 10.2, 5, 9.9}), 2u);
  EXPECT_EQ(found({20, 10.2, 10, 9.9}), 0u);
  EXPECT_EQ(found({10, 10.2, 9, 9.9}), std::nullopt) << "within 15%";
  EXPECT_EQ(found({10, 14, 6, 12}), std::nullopt) << "the others differ as much";
  EXPECT_EQ(found({5, 5, 10, 10}), std::nullopt) << "two are no lone one";
  EXPECT_EQ(found({5, 10}), std::nullopt);
}

TEST(Recommend, WhatLiesWithinTheSpreadOfPassesIsEqual) {
  const Setting large{512 << 10, 32, 1}, small{512 << 10, 8, 1};
  auto found = recommend({measured(small, {9.4, 10.0, 9.0}), measured(large, {10, 10.6, 9.5})},
                         Workload::kMix);
  EXPECT_NEAR(found.as_good, 0.047, 0.001);  // 9.4 is 6% below 10
  EXPECT_EQ(found.setting, large);
  EXPECT_THAT(reason_of(found, 50), ::testing::HasSubstr("within 5%"));
  found = recommend({measured(small, {9.6, 10.1, 9.1}), measured(large, {10, 10.6, 9.5})},
                    Workload::kMix);
  EXPECT_EQ(found.setting, small);
  EXPECT_FALSE(found.too_noisy());
  EXPECT_THAT(reason_of(found, 50), ::testing::HasSubstr("5% are taken as equal"));
}

TEST(Recommend, SaysWhenTheMachineIsTooNoisy) {
  const Setting large{512 << 10, 32, 1}, small{512 << 10, 8, 1};
  const auto found =
      recommend({measured(small, {8, 11, 5}), measured(large, {10, 14, 6})}, Workload::kMix);
  EXPECT_EQ(found.as_good, kMostAsGood);
  EXPECT_EQ(found.setting, large) << "20% is more than noise may excuse";
  EXPECT_TRUE(found.too_noisy());
  EXPECT_THAT(reason_of(found, 50), ::testing::HasSubstr("TOO NOISY to tell"));
  const auto calm = recommend({measured(small, {8, 11, 5}), measured(large, {10, 10, 10}),
                               measured({1 << 20, 8, 1}, {9, 9, 9})},
                              Workload::kMix);
  EXPECT_FALSE(calm.too_noisy()) << "one setting's passes say nothing of the others";
}

TEST(Recommend, SaysWhatASettingOfTheSameSizeSaves) {
  const auto reason = [](const Setting& one, const Setting& best) {
    return reason_of(recommend({measured(one, 9.9), measured(best, 10)}, Workload::kMix), 50);
  };
  EXPECT_THAT(reason({1 << 20, 16, 1}, {1 << 20, 8, 2}),
              ::testing::EndsWith("but 1 thread does instead of 2"));
  EXPECT_THAT(reason({2 << 20, 8, 1}, {1 << 20, 16, 1}),
              ::testing::EndsWith("but a depth of 8 does instead of 16"));
}

TEST(Recommend, SameBytesInFlightFewerThreadsThenLessDepth) {
  const Setting two_threads{1 << 20, 8, 2}, deep{512 << 10, 32, 1}, flat{2 << 20, 8, 1};
  const auto found = recommend({measured(two_threads, 10), measured(deep, 10), measured(flat, 9.9)},
                               Workload::kMix);
  EXPECT_EQ(found.setting, flat);
}

TEST(Recommend, AShortLookDoesNotCount) {
  CellResult lucky = measured({4 << 20, 1, 1}, 20);
  lucky.finalist = false;
  const Setting sure{1 << 20, 8, 1};
  EXPECT_EQ(recommend({lucky, measured(sure, 5)}, Workload::kMix).best, sure);
}

}  // namespace
}  // namespace spillway::aio_bench
