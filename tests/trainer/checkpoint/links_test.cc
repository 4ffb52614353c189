// Checkpoints of states on NVMe: links of what is there, or copies made beside training.
#include <gmock/gmock.h>
#include <spillway/trainer/checkpoint_save.h>
#include <sys/stat.h>

#include <thread>

#include "tests/support/flip_byte.h"
#include "tests/trainer/checkpoint/faulty_files.h"
#include "tests/trainer/checkpoint/states_fixture.h"
#include "tests/trainer/support/thread_ranks.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;

class CheckpointLinksTest : public CheckpointStatesTest {
 protected:
  Config on_nvme() const {
    Config config = this->config(OffloadDevice::kNvme, OffloadDevice::kNvme);
    config.sub_group_size = 3'000;
    return config;
  }
  void save(ZeroEngine& engine, CheckpointFiles& files) {
    save_checkpoint(engine.quiet_states(), {.step = engine.steps_done()}, saved_.path(), files);
  }
};

TEST_F(CheckpointLinksTest, ACheckpointSharesItsBytesWithTheStoreAndNeverChanges) {
  for (const UpdateOrder order :
       {UpdateOrder::kAfterBackward, UpdateOrder::kForward, UpdateOrder::kBackward}) {
    Config config = on_nvme();
    config.update_order = order;
    expect_saved_for_good(config, [&](const std::filesystem::path& checkpoint) {
      std::set<ino_t> shared;
      std::ranges::set_intersection(inodes(checkpoint), inodes(swap_.path()),
                                    std::inserter(shared, shared.end()));
      EXPECT_GE(shared.size(), 2u) << "no bytes were copied";
      EXPECT_FALSE(std::filesystem::exists(checkpoint / "rank-0000.bin")) << "some were";
    });
  }
}

// What was a private swap file is a checkpoint's file now, like the others.
TEST_F(CheckpointLinksTest, ItsFilesFollowTheUmask) {
  const mode_t before = ::umask(027);
  const auto engine = own_engine(on_nvme(), *ranks_);
  train_own(*engine);
  save(*engine, *files_);
  ::umask(before);
  int links = 0;
  for (const auto& entry : std::filesystem::directory_iterator(at(1))) {
    struct stat status {};
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0640u) << entry.path();
    links += status.st_nlink > 1;
  }
  EXPECT_GT(links, 0);
}

TEST_F(CheckpointLinksTest, WhatIsResumedWritesNothingIntoTheCheckpointItCameFrom) {
  {
    const auto engine = own_engine(on_nvme(), *ranks_);
    train_own(*engine);
    save(*engine, *files_);
  }
  const auto before = contents(at(1));
  const auto engine = own_engine(on_nvme(), *ranks_);
  auto checkpoint = opened(at(1));
  load_checkpoint(engine->quiet_states(), checkpoint);
  engine->resume_after(1);
  for (int step = 0; step < 3; ++step) {
    train_own(*engine);
    save(*engine, *files_);
  }
  EXPECT_EQ(contents(at(1)) == before, true);
  for (std::uint64_t step = 1; step <= 4; ++step) EXPECT_TRUE(whole(at(step)));
}

// Segments are numbered by their first tiles, not by where the heap has put them.
TEST_F(CheckpointLinksTest, TheSameStatesGiveTheSameFilesInTheSameOrder) {
  const auto engine = own_engine(on_nvme(), *ranks_);
  train_own(*engine);
  save(*engine, *files_);
  const auto checkpoint = opened(at(1));
  const ShardIndex& shard = checkpoint.shards().front();
  std::uint32_t next = 0;
  for (const CheckpointExtent& extent : shard.extents) {
    for (const PlanePlace& place : extent.planes) {
      EXPECT_LE(place.file, next) << "a later segment has an earlier number";
      next = std::max(next, place.file + 1);
    }
  }
  EXPECT_EQ(next, shard.files.size());
  EXPECT_GE(next, 2u) << "there is an order to see";
}

// The same states as links, as clones and copies of what is on files, and as in memory.
TEST_F(CheckpointLinksTest, LinksClonesAndCopiesGoOnWithTheSameBits) {
  const Trace expected = run(in_memory());
  for (const std::string form : {"linked", "cloned", "copied"}) {
    SCOPED_TRACE(form);
    FaultyFiles files;
    files.links = form == "linked";
    files.clones = form == "cloned";
    const std::filesystem::path directory = saved_ / form;
    std::filesystem::create_directory(directory);
    EXPECT_EQ(run(on_nvme(), directory, nullptr, &files), expected);
    const std::filesystem::path path = directory / checkpoint_name(kSavedAt);
    EXPECT_EQ(std::filesystem::exists(path / "rank-0000.bin"), form == "copied");
    EXPECT_EQ(std::filesystem::exists(path / "rank-0000-0000.bin"), form != "copied");
    EXPECT_TRUE(whole(path));
    auto checkpoint = opened(path);
    for (const Config& config : {in_memory(), on_nvme()}) {
      EXPECT_EQ(run(config, {}, &checkpoint), rest(expected));
    }
  }
}

TEST_F(CheckpointLinksTest, PartlyInMemoryPartlyOnNvme) {
  Config config = on_nvme();
  config.offload_param.device = OffloadDevice::kCpu;
  config.offload_optimizer.max_in_cpu_elements = 5'000;
  const Trace expected = run(in_memory());
  EXPECT_EQ(run(config, saved_.path()), expected);
  EXPECT_TRUE(whole(at(kSavedAt)));
  EXPECT_TRUE(std::filesystem::exists(at(kSavedAt) / "rank-0000.bin"));
  EXPECT_TRUE(std::filesystem::exists(at(kSavedAt) / "rank-0000-0000.bin"));
  auto checkpoint = opened(at(kSavedAt));
  EXPECT_EQ(run(on_nvme(), {}, &checkpoint), rest(expected));
}

TEST_F(CheckpointLinksTest, AFlippedBitInALinkIsFoundAndNamed) {
  const auto engine = own_engine(on_nvme(), *ranks_);
  train_own(*engine);
  save(*engine, *files_);
  auto checkpoint = opened(at(1));
  const ShardIndex& index = checkpoint.shards()[0];
  const CheckpointExtent& extent = index.extents.back();
  ASSERT_FALSE(extent.checksums.empty());
  const std::filesystem::path path = at(1) / index.files[extent.planes[0].file].name;
  flip_byte(path, extent.planes[0].offset + 2);
  std::string found;
  EXPECT_EQ(checkpoint.verify([&](const Error& error) { found = error.message(); }), 1u);
  EXPECT_THAT(found, HasSubstr(path.filename().string()));
  EXPECT_THAT(found, HasSubstr("param_hi of "));
  EXPECT_THROW(load_checkpoint(engine->quiet_states(), checkpoint), Failure);
}

// Training goes on while a save is on its way, and what is saved is what was there at its start.
TEST_F(CheckpointLinksTest, WhatIsSavedIsOfTheStepItBeganAt) {
  for (const bool clones : {false, true}) {
    const auto engine = own_engine(on_nvme(), *ranks_);
    train_own(*engine);
    FaultyFiles files;
    files.links = false;
    files.clones = clones;
    {
      CheckpointSave save(engine->quiet_states(), {.step = 1}, saved_.path(), files);
      for (int step = 0; step < 3; ++step) train_own(*engine);
      save.finish();
    }
    const auto again = own_engine(in_memory(), *ranks_);
    train_own(*again);
    save_checkpoint(again->quiet_states(), {.step = 8}, saved_.path(), files);
    auto checkpoint = opened(at(1));
    load_checkpoint(again->quiet_states(), checkpoint);
    save_checkpoint(again->quiet_states(), {.step = 9}, saved_.path(), files);
    EXPECT_EQ(bytes_of(at(8) / "rank-0000.bin") == bytes_of(at(9) / "rank-0000.bin"), true)
        << "clones: " << clones;
    for (const std::uint64_t step : {1, 8, 9}) std::filesystem::remove_all(at(step));
  }
}

TEST_F(CheckpointLinksTest, ASaveThatIsGivenUpLeavesNothing) {
  const auto engine = own_engine(on_nvme(), *ranks_);
  for (const auto& [links, clones] : {std::pair(true, false), {false, true}, {false, false}}) {
    FaultyFiles files;
    files.links = links;
    files.clones = clones;
    { const CheckpointSave save(engine->quiet_states(), {.step = 1}, saved_.path(), files); }
    EXPECT_TRUE(std::filesystem::is_empty(saved_.path()));
    train_own(*engine);
  }
}

}  // namespace
}  // namespace spillway::trainer::testing
