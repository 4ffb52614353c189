// The checkpoints of a run: their names, which stay, and what a killed run left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scratch.h"
#include "tests/trainer/checkpoint/format/checkpoint_fixture.h"
#include "trainer/checkpoint/directory.h"
#include "trainer/checkpoint/files.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void make(const std::filesystem::path& path) {
  std::filesystem::create_directories(path);
  write_all(path / kManifestName, "{}");
  write_all(path / "rank-0000.bin", "bytes");
  write_all(path / "rank-0000.json", "{}");
}

TEST(CanLinkTest, OneFilesystemThatHasLinks) {
  const Scratch scratch;
  std::filesystem::create_directory(scratch / "other");
  EXPECT_TRUE(can_link(scratch.path(), scratch / "other"));
  EXPECT_FALSE(can_link(scratch.path(), "/proc")) << "another filesystem";
  EXPECT_FALSE(can_link(scratch.path(), scratch / "missing"));
  EXPECT_TRUE(filesystem_has_links(0xef53)) << "ext4";
  EXPECT_FALSE(filesystem_has_links(0x2011bab0)) << "exFAT";
  EXPECT_FALSE(filesystem_has_links(0x4d44)) << "FAT";
}

TEST(CheckpointNameTest, IsOfItsStepAlone) {
  EXPECT_EQ(checkpoint_name(42), "step-00000042");
  EXPECT_EQ(checkpoint_name(1'234'567'890), "step-1234567890");
  for (const std::uint64_t step : {std::uint64_t{0}, std::uint64_t{42}, ~std::uint64_t{0}}) {
    EXPECT_EQ(step_of_name(checkpoint_name(step)), step);
  }
  for (const char* name :
       {"step-42", "step-000000042", "step-00000042.tmp", "step-", "step-0000004x",
        "xstep-00000042", "step--0000042", "step-99999999999999999999"}) {
    EXPECT_FALSE(step_of_name(name)) << name;
  }
}

TEST(KeepRuleTest, TheNewestAndEachMthStay) {
  const std::vector<std::uint64_t> steps{10, 20, 30, 40, 50};
  EXPECT_THAT(superfluous(steps, {.newest = 2}), ElementsAre(10, 20, 30));
  EXPECT_THAT(superfluous(steps, {.newest = 2, .every = 20}), ElementsAre(10, 30));
  EXPECT_THAT(superfluous(steps, {.newest = 0}), IsEmpty());
  EXPECT_THAT(superfluous(steps, {.newest = 9}), IsEmpty());
}

TEST(KeepRuleTest, TheMostThatLieThereAtATimeAreForeseen) {
  for (const std::uint64_t interval : {0, 3, 5}) {
    for (const KeepRule keep : {KeepRule{1, 0}, KeepRule{2, 6}, KeepRule{3, 10}, KeepRule{0, 0}}) {
      for (const std::vector<std::uint64_t>& present :
           {std::vector<std::uint64_t>{}, {6}, {2, 4, 5, 6}}) {
        const std::uint64_t done = present.empty() ? 0 : 6;
        std::vector<std::uint64_t> steps = present;
        std::size_t most = steps.size();
        for (std::uint64_t step = done + 1; step <= 40; ++step) {
          if (step != 40 && (interval == 0 || step % interval != 0)) continue;
          steps.push_back(step);
          most = std::max(most, steps.size());
          for (const std::uint64_t gone : superfluous(steps, keep)) std::erase(steps, gone);
        }
        const std::uint64_t foreseen = most_checkpoints(present, keep, interval, done, 40);
        EXPECT_GE(foreseen, most) << interval << " " << keep.newest << " " << keep.every;
        if (keep.every == 0) {
          EXPECT_EQ(foreseen, most) << interval << " " << keep.newest;
        }
      }
    }
  }
}

TEST(CheckpointDirectoryTest, WhatAKilledRunLeftIsRemovedAndSaid) {
  const Scratch scratch;
  make(scratch / "step-00000010");
  make(scratch / "step-00000020.tmp");
  make(scratch / "step-00000030.tmp");
  write_all(scratch.path() / "step-00000030.tmp" / "notes.txt", "mine");
  make(scratch / "holiday.tmp");
  write_all(scratch / "step-00000040.tmp", "a file of this name");
  const auto directory = CheckpointDirectory::open(scratch.path());
  ASSERT_TRUE(directory) << directory.error().message();
  EXPECT_THAT(directory->notes(),
              ElementsAre(HasSubstr("removed " + (scratch / "step-00000020.tmp").string()),
                          HasSubstr("left " + (scratch / "step-00000030.tmp").string())));
  EXPECT_FALSE(std::filesystem::exists(scratch / "step-00000020.tmp"));
  EXPECT_EQ(read_all(scratch.path() / "step-00000030.tmp" / "notes.txt"), "mine");
  EXPECT_TRUE(std::filesystem::exists(scratch.path() / "holiday.tmp" / "rank-0000.bin"));
  EXPECT_TRUE(std::filesystem::exists(scratch / "step-00000040.tmp"));
  EXPECT_THAT(list_checkpoints(scratch.path()), ElementsAre(10));
}

TEST(CheckpointDirectoryTest, IsOneRunsAtATime) {
  const Scratch scratch;
  const auto first = CheckpointDirectory::open(scratch / "new");
  ASSERT_TRUE(first) << first.error().message();
  const auto second = CheckpointDirectory::open(scratch / "new");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
}

TEST(CheckpointDirectoryTest, PrunesAndSetsAside) {
  const Scratch scratch;
  for (const std::uint64_t step : {5, 10, 15, 20}) make(scratch / checkpoint_name(step));
  auto directory = CheckpointDirectory::open(scratch.path());
  ASSERT_TRUE(directory);
  const auto files = make_checkpoint_files();
  ASSERT_TRUE(directory->prune({.newest = 2, .every = 10}, *files));
  EXPECT_THAT(list_checkpoints(scratch.path()), ElementsAre(10, 15, 20));
  EXPECT_FALSE(std::filesystem::exists(scratch / "step-00000005.tmp"));
  const auto lines = directory->set_aside_newer_than(10, *files);
  ASSERT_TRUE(lines) << lines.error().message();
  EXPECT_THAT(*lines, ElementsAre(HasSubstr("step-00000015"), HasSubstr("step-00000020")));
  EXPECT_THAT(list_checkpoints(scratch.path()), ElementsAre(10));
  EXPECT_EQ(read_all(scratch.path() / "step-00000020.set-aside" / "rank-0000.bin"), "bytes");
}

TEST(CheckpointDirectoryTest, TooLittleSpaceIsToldWithTheArithmetic) {
  const Scratch scratch;
  EXPECT_TRUE(check_space(scratch.path(), 1, "it"));
  const auto refused = check_space(scratch.path(), std::uint64_t{1} << 60, "the checkpoint");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNoSpace);
  EXPECT_THAT(refused.error().message(), HasSubstr("the checkpoint needs 1"));
  EXPECT_THAT(refused.error().message(), HasSubstr("are free"));
}

}  // namespace
}  // namespace spillway::trainer::testing
