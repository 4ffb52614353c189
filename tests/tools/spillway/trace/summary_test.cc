#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/scratch.h"
#include "tools/spillway/trace/drawing.h"
#include "tools/spillway/trace/file.h"
#include "tools/spillway/trace/summary.h"

namespace spillway::tools {
namespace {

using trainer::Lane;

// A span in milliseconds.
void add(TraceFile* trace, Lane lane, const char* name, double from_ms, double to_ms,
         std::uint64_t bytes = 0) {
  trace->lanes[static_cast<std::size_t>(lane)].push_back({name, from_ms / 1e3, to_ms / 1e3, bytes});
  trace->seconds = std::max(trace->seconds, to_ms / 1e3);
}

// 100 ms: forward 0-30, backward 30-60, update 70-90; reads 10-20, 15-40 and 60-65; a write 85-100.
TraceFile example() {
  TraceFile trace;
  trace.process = "an <example>";
  add(&trace, Lane::kStep, "step 1", 0, 100);
  add(&trace, Lane::kCompute, "forward block 0", 0, 30);
  add(&trace, Lane::kCompute, "backward block 0", 30, 60);
  add(&trace, Lane::kRead, "read", 10, 20, 1'000'000);
  add(&trace, Lane::kRead, "read", 15, 40, 2'000'000);
  add(&trace, Lane::kRead, "read", 60, 65, 500'000);
  add(&trace, Lane::kOptimizer, "update", 70, 90);
  add(&trace, Lane::kWrite, "write", 85, 100, 3'000'000);
  add(&trace, Lane::kWait, "wait", 60, 70);
  return trace;
}

void expect_milliseconds(double seconds, double wanted_ms) {
  EXPECT_NEAR(seconds * 1e3, wanted_ms, 1e-6);
}

TEST(TraceSummaryTest, BusyHiddenAndNothing) {
  const TraceSummary summary = summarise(example());
  expect_milliseconds(summary.seconds, 100);
  EXPECT_EQ(summary.steps, 1u);
  expect_milliseconds(summary.lane(Lane::kCompute).busy_s, 60);
  expect_milliseconds(summary.lane(Lane::kRead).busy_s, 35);
  expect_milliseconds(summary.lane(Lane::kRead).hidden_s, 30);
  EXPECT_EQ(summary.lane(Lane::kRead).bytes, 3'500'000u);
  expect_milliseconds(summary.lane(Lane::kWrite).busy_s, 15);
  expect_milliseconds(summary.lane(Lane::kWrite).hidden_s, 5);
  expect_milliseconds(summary.storage.busy_s, 50);
  expect_milliseconds(summary.storage.hidden_s, 35);
  expect_milliseconds(summary.lane(Lane::kOptimizer).hidden_s, 0);
  // Waiting is no work: between the last read and the update nothing ran.
  expect_milliseconds(summary.nothing_s, 5);
  ASSERT_EQ(summary.nothing.size(), 1u);
  expect_milliseconds(summary.nothing[0].start_s, 65);
}

TEST(TraceSummaryTest, AnUpdateBesideBackwardIsHidden) {
  TraceFile trace = example();
  add(&trace, Lane::kOptimizer, "update", 50, 58);
  auto& spans = trace.lanes[static_cast<std::size_t>(Lane::kOptimizer)];
  std::swap(spans[0], spans[1]);
  expect_milliseconds(summarise(trace).lane(Lane::kOptimizer).hidden_s, 8);
}

TEST(TraceSummaryTest, Intervals) {
  const Intervals a{{0, 1}, {2, 4}}, b{{0.5, 2.5}, {3, 5}};
  expect_milliseconds(length(united(a, b)), 5000);
  EXPECT_EQ(united(a, b).size(), 1u);
  expect_milliseconds(length(common(a, b)), 500 + 500 + 1000);
  expect_milliseconds(length(rest(a, 6)), 1000 + 2000);
  EXPECT_TRUE(rest({{0, 6}}, 6).empty());
  EXPECT_TRUE(common({}, b).empty());
}

TEST(TraceSummaryTest, TextAndJsonSayTheSame) {
  const TraceSummary summary = summarise(example());
  const std::string text = as_text(summary);
  EXPECT_NE(text.find("nothing ran for 0.005 s (5%)"), std::string::npos) << text;
  EXPECT_NE(text.find("1 step in 0.100 s"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(as_json(summary));
  EXPECT_NEAR(json["lanes"]["read"]["hidden_seconds"], 0.030, 1e-9);
  EXPECT_NEAR(json["nothing_ran_seconds"], 0.005, 1e-9);
}

TEST(TraceDrawingTest, EveryLaneHasARowAndTheSizeDoesNotGrowWithTheTrace) {
  TraceFile trace = example();
  for (int i = 0; i < 200'000; ++i) {
    add(&trace, Lane::kWrite, "write", 100 + i * 0.01, 100 + i * 0.01 + 0.008, 1000);
  }
  const std::string svg = draw_trace(trace);
  for (const char* name : {">compute<", ">optimizer<", ">read<", ">write<", ">wait<",
                           "an &lt;example>", "prefers-color-scheme: dark"}) {
    EXPECT_NE(svg.find(name), std::string::npos) << name;
  }
  EXPECT_EQ(svg.find(">copy<"), std::string::npos) << "a lane without spans has no row";
  EXPECT_LT(svg.size(), 200'000u);
}

class TraceFileTest : public ::testing::Test {
 protected:
  std::string refused(const std::string& text) {
    std::ofstream(scratch_ / "trace.json") << text;
    const auto trace = read_trace(scratch_ / "trace.json");
    return trace ? "" : trace.error().message();
  }
  Scratch scratch_;
};

TEST_F(TraceFileTest, WhatTraceWritesIsReadBack) {
  trainer::Trace trace({.capacity = 10});
  trace.begin_step(7);
  const auto start = trainer::Trace::Clock::now();
  trace.add(Lane::kRead, "read", start, start + std::chrono::milliseconds(3), {.bytes = 4096});
  trace.end_step();
  ASSERT_TRUE(trace.write(scratch_ / "trace.json", "test"));
  const auto file = read_trace(scratch_ / "trace.json");
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->process, "test");
  ASSERT_EQ(file->lane(Lane::kRead).size(), 1u);
  const TracedSpan& span = file->lane(Lane::kRead)[0];
  EXPECT_NEAR(span.end_s - span.start_s, 0.003, 1e-6);
  EXPECT_EQ(span.bytes, 4096u);
  EXPECT_EQ(file->lane(Lane::kStep)[0].name, "step 7");
}

TEST_F(TraceFileTest, WhatIsNoTraceIsOneError) {
  EXPECT_NE(refused("not json").find("is no trace"), std::string::npos);
  EXPECT_NE(refused("{\"a\": 1}").find("no traceEvents"), std::string::npos);
  EXPECT_NE(refused("[1, 2]").find("is no trace"), std::string::npos);
  EXPECT_NE(refused("{\"traceEvents\":[]}").find("no spans"), std::string::npos);
  const std::string span = "{\"ph\":\"X\",\"cat\":\"read\",\"name\":\"read\"";
  for (const char* rest :
       {"}", ",\"ts\":\"x\",\"dur\":1}", ",\"ts\":0,\"dur\":-1}", ",\"ts\":1e300,\"dur\":1}",
        ",\"ts\":0,\"dur\":1,\"args\":3}", ",\"ts\":0,\"dur\":1,\"args\":{\"bytes\":\"x\"}}"}) {
    const std::string message = refused("{\"traceEvents\":[" + span + rest + "]}");
    EXPECT_NE(message.find("is no trace"), std::string::npos) << rest;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  EXPECT_FALSE(read_trace(scratch_ / "none.json"));
}

TEST_F(TraceFileTest, OtherProgramsEventsAreNotOurs) {
  EXPECT_EQ(refused("{\"traceEvents\":[{\"ph\":\"B\"},{\"ph\":\"X\",\"cat\":\"theirs\"},"
                    "{\"ph\":\"X\",\"cat\":\"read\",\"name\":\"read\",\"ts\":5,\"dur\":1}]}"),
            "");
}

}  // namespace
}  // namespace spillway::tools
