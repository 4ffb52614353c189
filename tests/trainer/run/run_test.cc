// A run of a training: what it goes on from, when it stops, what it leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <utility>

#include "tests/support/loop_filesystem.h"
#include "tests/trainer/run/run_fixture.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Numbers = std::vector<double>;

Numbers joined(Numbers first, const Numbers& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

TEST_F(RunTest, AResumedRunHasTheBitsOfOneThatWasNotInterrupted) {
  const auto evaluating = [&](RunInput input) {
    input.eval_data = value_or_throw(TokenFile::open(token_file(2)));
    input.eval_every = 1;
    input.eval_samples = 5;
    return input;
  };
  Told whole, first, second;
  EXPECT_EQ(run(evaluating(input(5)), &whole), RunEnd::kFinished);
  EXPECT_EQ(run(evaluating(saving(2)), &first), RunEnd::kFinished);
  EXPECT_EQ(first.saves.size(), 2u);
  EXPECT_EQ(run(evaluating(saving(5)), &second), RunEnd::kFinished);
  EXPECT_EQ(second.from, saved_ / "step-00000002");
  EXPECT_EQ(whole.losses.size(), 5u);
  EXPECT_EQ(joined(first.losses, second.losses), whole.losses);
  EXPECT_EQ(joined(first.norms, second.norms), whole.norms);
  EXPECT_EQ(joined(first.evaluations, second.evaluations), whole.evaluations);

  trainer::Run again(evaluating(saving(5)), *ranks_);  // of the loaded weights, without a step
  EXPECT_EQ(again.evaluate(), whole.evaluations.back());
}

TEST_F(RunTest, StopsBetweenStepsAndHasSaved) {
  std::atomic<bool> stop{false};
  Told whole, stopped, rest;
  run(input(4), &whole);
  stopped.after_step = [&](std::uint64_t step) { stop = step == 2; };
  RunInput wanted = saving(4);
  wanted.checkpoints.every = 0;
  wanted.stop.after_step = &stop;
  EXPECT_EQ(run(std::move(wanted), &stopped), RunEnd::kStopped);
  EXPECT_EQ(stopped.stopped_after, 2u);
  EXPECT_THAT(checkpoints(), ElementsAre(2));
  EXPECT_EQ(run(saving(4), &rest), RunEnd::kFinished);
  EXPECT_EQ(joined(stopped.losses, rest.losses), whole.losses);
}

TEST_F(RunTest, ARunThatSavesNothingIsNotStoppedAfterAStep) {
  const std::atomic<bool> stop{true};
  Told told;
  RunInput wanted = input(2);
  wanted.stop.after_step = &stop;
  EXPECT_EQ(run(std::move(wanted), &told), RunEnd::kFinished);
  EXPECT_EQ(told.losses.size(), 2u);
}

TEST_F(RunTest, StopsAtOnceAndLeavesNoCheckpointUnfinished) {
  std::atomic<bool> stop{false};
  Told told;
  told.after_step = [&](std::uint64_t step) { stop = step == 2; };
  RunInput wanted = saving(4);
  wanted.stop.now = &stop;
  EXPECT_THROW(run(std::move(wanted), &told), Interrupted);
  for (const auto& entry : std::filesystem::directory_iterator(saved_)) {
    EXPECT_NE(entry.path().extension(), kUnfinishedSuffix) << entry.path();
  }
}

TEST_F(RunTest, KeepsTheCheckpointsOfTheRule) {
  RunInput wanted = saving(6);
  wanted.checkpoints.keep = {.newest = 2, .every = 3};
  run(std::move(wanted));
  EXPECT_THAT(checkpoints(), ElementsAre(3, 5, 6));
}

TEST_F(RunTest, DoesNothingWhereAllStepsAreDone) {
  run(saving(2));
  RunInput wanted = saving(2);
  wanted.metrics = scratch_ / "metrics.jsonl";
  Told told;
  EXPECT_EQ(run(std::move(wanted), &told), RunEnd::kNothingToDo);
  EXPECT_THAT(told.losses, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "metrics.jsonl"));
}

TEST_F(RunTest, TwoRunsDoNotShareADirectory) {
  const trainer::Run first(saving(2), *ranks_);
  const Error error = failure_of([&] { run(saving(2)); });
  EXPECT_EQ(error.kind, ErrorKind::kBusy);
  EXPECT_THAT(error.message(), HasSubstr(saved_.string()));
}

TEST_F(RunTest, MakesAMissingDirectory) {
  RunInput wanted = saving(1);
  wanted.checkpoints.directory = saved_ / "a" / "b";
  run(std::move(wanted));
  EXPECT_THAT(list_checkpoints(saved_ / "a" / "b"), ElementsAre(1));
}

TEST_F(RunTest, RefusesADirectoryThatCannotBeMade) {
  std::ofstream(saved_) << "a file";
  const Error error = failure_of([&] { run(saving(1)); });
  EXPECT_THAT(error.message(), HasSubstr(saved_.string()));
}

TEST_F(RunTest, SaysBeforeTheFirstStepThatCheckpointsHaveNoRoom) {
  const LoopFilesystem small(4 << 20);
  if (!small.why_not().empty()) GTEST_SKIP() << small.why_not();
  Told told;
  RunInput wanted = saving(4);
  wanted.checkpoints.directory = small.mount_point() / "saved";
  const Error error = failure_of([&] { run(std::move(wanted), &told); });
  EXPECT_EQ(error.kind, ErrorKind::kNoSpace);
  EXPECT_THAT(error.message(), HasSubstr("4 checkpoints of "));
  EXPECT_THAT(error.message(), HasSubstr("(checkpoints.keep.newest 0; 0 are there"));
  EXPECT_THAT(told.losses, IsEmpty());
  EXPECT_THAT(list_checkpoints(small.mount_point() / "saved"), IsEmpty());
}

TEST_F(RunTest, RefusesWhatTheModelCannotTake) {
  RunInput wanted = input(1);
  wanted.context = 33;
  EXPECT_EQ(failure_of([&] { trainer::Run(std::move(wanted), *ranks_); }).kind,
            ErrorKind::kInvalid);
  RunInput narrow = input(1);
  GptConfig few = tiny_gpt();
  few.vocab_size = 64;
  narrow.model = gpt2_model(few);
  EXPECT_THAT(failure_of([&] { run(std::move(narrow)); }).message(),
              HasSubstr("outside the model's vocabulary of 64"));
  RunInput none = input(1);
  none.eval_samples = 0;
  EXPECT_EQ(failure_of([&] { trainer::Run(std::move(none), *ranks_); }).kind, ErrorKind::kInvalid);
}

TEST_F(RunTest, WritesATraceHoweverItEnds) {
  const std::filesystem::path path = scratch_ / "trace.json";
  const auto traced = [&] {
    RunInput wanted = input(2);
    wanted.trace.path = path;
    return wanted;
  };
  {
    trainer::Run whole(traced(), *ranks_);
    whole.train();
    const auto written = whole.write_trace();
    ASSERT_TRUE(written.has_value());
    EXPECT_EQ(written->path, path);
    EXPECT_GT(written->spans, 0u);
  }
  const auto whole_bytes = std::filesystem::file_size(path);
  std::filesystem::remove(path);
  std::atomic<bool> stop{false};
  Told told;
  told.after_step = [&](std::uint64_t) { stop = true; };
  RunInput stopped = traced();
  stopped.stop.now = &stop;
  EXPECT_THROW(run(std::move(stopped), &told), Interrupted);
  EXPECT_GT(std::filesystem::file_size(path), 1000u);
  EXPECT_LT(std::filesystem::file_size(path), whole_bytes);

  told = {};
  told.after_step = [&](std::uint64_t) {
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
  };
  run(traced(), &told);  // without write_trace()
  ASSERT_EQ(told.trace_errors.size(), 1u);
  EXPECT_THAT(told.trace_errors[0], HasSubstr(path.string()));
}

TEST_F(RunTest, ReportsWhereTheStatesAre) {
  RunInput wanted = input(2);
  wanted.config.offload_param.device = OffloadDevice::kNvme;
  wanted.config.offload_optimizer.device = OffloadDevice::kNvme;
  trainer::Run run(std::move(wanted), *ranks_);
  run.train();
  const RunSummary summary = run.summary();
  EXPECT_EQ(summary.totals.steps, 2u);
  ASSERT_EQ(summary.held.size(), 6u);
  EXPECT_EQ(summary.held[1].what, "optimizer states");
  EXPECT_EQ(summary.held[1].where, "nvme");
  EXPECT_GE(summary.held[1].storage, 10 * run.parameter_count());
  const auto per_step = static_cast<double>(summary.totals.nvme_written_bytes) / 2;
  EXPECT_NEAR(per_step, summary.expected_written_bytes, 0.1 * per_step);
  const MemoryMap map = run.memory_map();
  std::uint64_t elements = 0;
  for (const ParameterPlace& parameter : map.parameters) {
    elements += parameter.elements;
    EXPECT_TRUE(parameter.tiles.has_value());
    EXPECT_EQ(parameter.ranks.last, 0u);
  }
  EXPECT_EQ(elements, run.parameter_count());
  EXPECT_EQ(map.parameters.size(), 2u + 2 * 12 + 2);
}

}  // namespace
}  // namespace spillway::trainer::testing
