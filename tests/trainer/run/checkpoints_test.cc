// Which checkpoint a run goes on from, and the texts that it compares.
#include "trainer/run/checkpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/run/run_fixture.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;

class CheckpointChoiceTest : public RunTest {
 protected:
  CheckpointChoiceTest() {
    for (const char* name : {"step-00000002", "step-00000010", "step-00000011.tmp"}) {
      std::filesystem::create_directories(saved_ / name);
    }
    std::filesystem::create_directories(empty_);
  }
  static std::filesystem::path chosen(const CheckpointOptions& options) {
    return choose_checkpoint(options, SettingNames{});
  }

  const std::filesystem::path empty_ = scratch_ / "empty";
};

TEST_F(CheckpointChoiceTest, IsTheNewestOneThatIsComplete) {
  EXPECT_EQ(chosen({.directory = saved_}), saved_ / "step-00000010");
  EXPECT_EQ(chosen({.directory = saved_, .resume = true}), saved_ / "step-00000010");
}

TEST_F(CheckpointChoiceTest, IsNoneWhereThereIsNone) {
  EXPECT_EQ(chosen({}), "");
  EXPECT_EQ(chosen({.directory = empty_}), "");
  EXPECT_EQ(chosen({.directory = scratch_ / "missing"}), "");
  EXPECT_EQ(chosen({.directory = empty_, .resume = true}), "");
  EXPECT_EQ(chosen({.directory = empty_, .resume = false}), "");
  EXPECT_EQ(chosen({.resume = false}), "");
}

TEST_F(CheckpointChoiceTest, IsTheNamedOneOrTheNewestOfTheNamedDirectory) {
  const std::filesystem::path old = saved_ / "step-00000002";
  EXPECT_EQ(chosen({.directory = empty_, .resume_from = old}), old);
  EXPECT_EQ(chosen({.directory = saved_, .resume_from = old}), old);
  EXPECT_EQ(chosen({.resume_from = saved_}), saved_ / "step-00000010");
  EXPECT_EQ(chosen({.resume_from = empty_}), empty_) << "opening it says what is wrong";
}

TEST_F(CheckpointChoiceTest, RefusesWhatTheOptionsForbid) {
  const Error there = failure_of([&] { chosen({.directory = saved_, .resume = false}); });
  EXPECT_EQ(there.kind, ErrorKind::kInvalid);
  EXPECT_THAT(there.message(), HasSubstr("checkpoints.resume = false, but the directory holds "
                                         "checkpoints of an earlier run"));
  const Error nowhere = failure_of([&] { chosen({.resume = true}); });
  EXPECT_EQ(nowhere.kind, ErrorKind::kInvalid);
  EXPECT_THAT(nowhere.message(), HasSubstr("checkpoints.directory: name it"));
}

TEST(ShortestTextTest, IsWhatCheckpointsHoldOfOld) {
  const std::pair<double, const char*> texts[] = {{0.0, "0"},
                                                  {1.0, "1"},
                                                  {0.001, "0.001"},
                                                  {3e-4, "0.0003"},
                                                  {1e-4, "0.0001"},
                                                  {1e-5, "1e-05"},
                                                  {2.5e-5, "2.5e-05"},
                                                  {6.25e-10, "6.25e-10"},
                                                  {0.1, "0.1"},
                                                  {12.5, "12.5"},
                                                  {1e15, "1000000000000000"},
                                                  {1e16, "1e+16"},
                                                  {1.0 / 3, "0.3333333333333333"}};
  for (const auto& [value, text] : texts) EXPECT_EQ(shortest_text(value), text);
}

}  // namespace
}  // namespace spillway::trainer::testing
