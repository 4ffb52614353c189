#include <gtest/gtest.h>
#include <spillway/trainer/trace.h>

#include <array>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "support/scratch.h"
#include "support/seed.h"

namespace spillway::trainer {
namespace {

using Json = nlohmann::json;
using std::chrono::microseconds;

constexpr auto kDrop = [](const Json& event) { return event.at("ph") != "X"; };

Json read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

std::vector<Json> spans_of(const Json& trace) {
  std::vector<Json> spans;
  for (const Json& event : trace.at("traceEvents")) {
    if (!kDrop(event)) spans.push_back(event);
  }
  return spans;
}

class TraceTest : public ::testing::Test {
 protected:
  Json written(const Trace& trace) {
    const auto done = trace.write(scratch_ / "trace.json", "a \"test\"");
    EXPECT_TRUE(done) << done.error().message();
    return read(scratch_ / "trace.json");
  }
  Scratch scratch_;
};

TEST_F(TraceTest, SpansOfSeveralThreadsAreAllThereWithTheirLanesAndArguments) {
  Trace trace({.capacity = 10'000});
  trace.name_units({"embedding", "block \"0\"\n"});
  trace.begin_step(1);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&trace, t] {
      for (std::int32_t i = 0; i < 1000; ++i) {
        const TraceSpan span(&trace, t % 2 == 0 ? Lane::kCompute : Lane::kOptimizer, "work",
                             {.bytes = 7, .unit = 1, .tile = t * 1000 + i});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  trace.end_step();
  EXPECT_EQ(trace.kept(), 4001u);
  EXPECT_EQ(trace.dropped(), 0u);
  const Json file = written(trace);
  std::set<int> tiles;
  for (const Json& span : spans_of(file)) {
    if (span.at("cat") == "step") {
      EXPECT_EQ(span.at("name"), "step 1");
      continue;
    }
    EXPECT_EQ(span.at("name"), "work block \"0\"\n");
    EXPECT_EQ(span.at("args").at("bytes"), 7);
    EXPECT_EQ(span.at("args").at("unit"), 1);
    const int tile = span.at("args").at("tile");
    EXPECT_EQ(span.at("cat"), tile / 1000 % 2 == 0 ? "compute" : "optimizer");
    tiles.insert(tile);
  }
  EXPECT_EQ(tiles.size(), 4000u);
  EXPECT_EQ(file.at("otherData").at("process"), "a \"test\"");
}

TEST_F(TraceTest, WhatDoesNotFitIsCounted) {
  Trace trace({.capacity = 10});
  trace.begin_step(1);
  for (int i = 0; i < 25; ++i) const TraceSpan span(&trace, Lane::kCopy, "copy");
  trace.end_step();
  EXPECT_EQ(trace.kept(), 10u);
  EXPECT_EQ(trace.dropped(), 16u);
  const Json file = written(trace);
  EXPECT_EQ(spans_of(file).size(), 10u);
  EXPECT_EQ(file.at("otherData").at("dropped_spans"), 16);
}

TEST_F(TraceTest, OnlyTheStepsAskedForAreKept) {
  Trace trace({.capacity = 100, .first_step = 2, .last_step = 3});
  const TraceSpan before(&trace, Lane::kCompute, "before");
  for (std::uint64_t step = 1; step <= 5; ++step) {
    trace.begin_step(step);
    EXPECT_EQ(trace.recording(), step == 2 || step == 3);
    { const TraceSpan span(&trace, Lane::kCompute, "in"); }
    trace.end_step();
    { const TraceSpan span(&trace, Lane::kCompute, "between"); }
  }
  std::map<std::string, int> names;
  for (const Json& span : spans_of(written(trace))) ++names[span.at("name")];
  EXPECT_EQ(names,
            (std::map<std::string, int>{{"in", 2}, {"step 2", 1}, {"step 3", 1}, {"between", 1}}));
}

TEST_F(TraceTest, SpansOfOneTrackDoNotOverlap) {
  const std::uint64_t seed = test_seed(11);
  std::mt19937_64 random(seed);
  Trace trace({.capacity = 1000});
  trace.begin_step(1);
  const auto start = Trace::Clock::now();
  for (int i = 0; i < 500; ++i) {
    const auto at = start + microseconds(random() % 1000);
    trace.add(i % 3 == 0 ? Lane::kWrite : Lane::kRead, "io", at, at + microseconds(random() % 50));
  }
  std::map<int, double> busy_until;
  std::set<std::string> lanes;
  for (const Json& span : spans_of(written(trace))) {
    EXPECT_GE(span.at("ts").get<double>() + 1e-6, busy_until[span.at("tid")]);
    busy_until[span.at("tid")] = span.at("ts").get<double>() + span.at("dur").get<double>();
    lanes.insert(span.at("cat"));
  }
  EXPECT_EQ(lanes, (std::set<std::string>{"read", "write"}));
  EXPECT_GT(busy_until.size(), 2u) << "operations in flight together have tracks of their own";
}

TEST_F(TraceTest, NoTraceCostsNothingAndDoesNothing) {
  const TraceSpan span(nullptr, Lane::kCompute, "never");
}

TEST_F(TraceTest, AFileThatIsNoTraceIsLeftAlone) {
  EXPECT_TRUE(check_trace_path(scratch_ / "new.json"));
  EXPECT_TRUE(check_trace_path("/dev/null"));
  const Trace trace({.capacity = 1});
  written(trace);
  EXPECT_TRUE(check_trace_path(scratch_ / "trace.json"));
  std::ofstream(scratch_ / "mine.json") << "{\"precious\": 1}";
  const auto refused = check_trace_path(scratch_ / "mine.json");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("left alone"), std::string::npos);
}

TEST_F(TraceTest, AFailedWriteLeavesTheEarlierTraceAndNothingElse) {
  Trace trace({.capacity = 10});
  written(trace);
  // A folder where the new file would be made: what root too cannot open for writing.
  std::filesystem::create_directory(scratch_ / "trace.json.part");
  const auto failed = trace.write(scratch_ / "trace.json", "test");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().errno_value, EISDIR);
  EXPECT_TRUE(read(scratch_ / "trace.json").contains("traceEvents"));
  EXPECT_FALSE(trace.write("/dev/full", "test")) << "a device is written in place";
  EXPECT_FALSE(trace.write(scratch_ / "none" / "trace.json", "test"));
}

}  // namespace
}  // namespace spillway::trainer
