// What counts as a change between two results, and what is noise.
#include "tools/aio_bench/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "support/scratch.h"

namespace spillway::aio_bench {
namespace {

using ::testing::SizeIs;

CellResult cell(const Setting& setting, const std::vector<double>& rates) {
  CellResult result{.workload = Workload::kMix, .setting = setting, .finalist = true};
  for (const double rate : rates) {
    result.repetitions.push_back(
        {.seconds = 1, .cpu_seconds = 0.1, .read_bytes = static_cast<std::uint64_t>(rate * 1e9)});
  }
  return result;
}

const Setting kOne{1 << 20, 8, 1}, kOther{1 << 20, 16, 1};

CellChange change_of(const std::vector<double>& before, const std::vector<double>& after) {
  const StoredTarget a{
      .name = "a", .circumstances = {}, .results = {cell(kOne, before)}, .recommended = kOne};
  const StoredTarget b{
      .name = "b", .circumstances = {}, .results = {cell(kOne, after)}, .recommended = kOne};
  const auto changes = changes_between(a, b);
  EXPECT_THAT(changes, SizeIs(1));
  return changes.at(0);
}

TEST(Changes, MoreThanThePassesSpreadIsAChange) {
  EXPECT_TRUE(change_of({10, 10.1, 9.9}, {9, 9.1, 8.9}).slower());
  EXPECT_TRUE(change_of({9, 9.1, 8.9}, {10, 10.1, 9.9}).faster());
}

TEST(Changes, WhatPassesSpreadOverIsNoise) {
  const CellChange change = change_of({10, 11, 9}, {9, 9.9, 8.1});
  EXPECT_NEAR(change.noise, 0.4, 1e-9);
  EXPECT_FALSE(change.slower() || change.faster());
}

TEST(Changes, LessThanThreePerCentIsNoise) {
  EXPECT_FALSE(change_of({10, 10, 10}, {9.75, 9.75, 9.75}).slower());
  EXPECT_TRUE(change_of({10, 10, 10}, {9.65, 9.65, 9.65}).slower());
}

TEST(Changes, ACellWithFewPassesTakesTheWidestSpreadOfTheOthers) {
  const StoredTarget before{.name = "a",
                            .circumstances = {},
                            .results = {cell(kOne, {10, 11, 9}), cell(kOther, {10})},
                            .recommended = kOne};
  StoredTarget after = before;
  after.results[1] = cell(kOther, {7});
  const auto changes = changes_between(before, after);
  ASSERT_THAT(changes, SizeIs(2));
  EXPECT_NEAR(changes[1].noise, 0.4, 1e-9);
  EXPECT_FALSE(changes[1].slower());
}

TEST(Changes, CellsThatOnlyOneHasAreNotCompared) {
  StoredTarget before{
      .name = "a", .circumstances = {}, .results = {cell(kOne, {1, 1, 1})}, .recommended = kOne};
  StoredTarget after = before;
  after.results = {cell(kOther, {1, 1, 1})};
  EXPECT_THAT(changes_between(before, after), SizeIs(0));
}

class CompareFiles : public ::testing::Test {
 protected:
  std::filesystem::path stored(const std::string& name, double rate) {
    Report report;
    report.target.directories = {"/mnt/a"};
    report.target.probes.emplace_back().filesystem = "ext4";
    report.results = {cell(kOne, {rate, rate * 1.001, rate * 0.999})};
    report.recommendation = recommend(report.results, Workload::kMix);
    return text(name, dumped(to_json({report})));
  }
  std::filesystem::path text(const std::string& name, const std::string& content) {
    std::ofstream(scratch_ / name) << content;
    return scratch_ / name;
  }
  Scratch scratch_;
};

TEST_F(CompareFiles, TheExitCodeTells) {
  const auto slow = stored("slow", 4), fast = stored("fast", 5), same = stored("same", 4.01);
  EXPECT_EQ(compare_files(slow, same), 0);
  EXPECT_EQ(compare_files(slow, fast), 0);
  EXPECT_EQ(compare_files(fast, slow), 1);
}

TEST_F(CompareFiles, WhatIsNoResultCannotBeCompared) {
  const auto good = stored("good", 4);
  for (const char* bad : {"", "{}", "[]", "{\"aio_bench\": 2}", "{\"aio_bench\": 1}",
                          "{\"aio_bench\": 1, \"targets\": [{\"name\": 3}]}"}) {
    EXPECT_EQ(compare_files(good, text("bad", bad)), 2) << bad;
    EXPECT_EQ(compare_files(text("bad", bad), good), 2) << bad;
  }
  EXPECT_EQ(compare_files(good, scratch_ / "missing"), 2);
  EXPECT_EQ(compare_files(good, text("empty", R"({"aio_bench": 1, "targets": []})")), 2);
}

TEST_F(CompareFiles, AResultComesBackAsItWasStored) {
  const auto read = read_result(stored("one", 4));
  ASSERT_TRUE(read) << read.error().message();
  ASSERT_THAT(*read, SizeIs(1));
  EXPECT_EQ(read->at(0).name, "/mnt/a");
  EXPECT_EQ(read->at(0).recommended, kOne);
  ASSERT_THAT(read->at(0).results, SizeIs(1));
  const CellResult& one = read->at(0).results[0];
  EXPECT_EQ(one.workload, Workload::kMix);
  EXPECT_EQ(one.setting, kOne);
  EXPECT_TRUE(one.finalist);
  EXPECT_EQ(one.gb_per_second(), 4);
}

}  // namespace
}  // namespace spillway::aio_bench
