// A run that goes on from a checkpoint has the bits of one that never stopped, whatever saved it.
#include <gmock/gmock.h>

#include <thread>

#include "tests/trainer/checkpoint/faulty_files.h"
#include "tests/trainer/checkpoint/states_fixture.h"
#include "tests/trainer/support/thread_ranks.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(CheckpointStatesTest, GoesOnWithTheSameBitsInEveryMode) {
  const OffloadDevice none = OffloadDevice::kNone, cpu = OffloadDevice::kCpu,
                      nvme = OffloadDevice::kNvme;
  const Trace expected = run(in_memory());
  std::vector<Config> modes{in_memory(), config(cpu, cpu), config(cpu, nvme), config(nvme, nvme)};
  modes.push_back(config(nvme, nvme));
  modes.back().update_order = UpdateOrder::kForward;  // a checkpoint is a barrier
  modes.back().sub_group_size = 3'333;
  modes.push_back(config(nvme, none));
  modes.back().offload_param.max_in_cpu_elements = 40'000;
  for (std::size_t i = 0; i < modes.size(); ++i) {
    SCOPED_TRACE("saved by mode " + std::to_string(i));
    const std::filesystem::path directory = saved_ / std::to_string(i);
    std::filesystem::create_directory(directory);
    EXPECT_EQ(run(modes[i], directory), expected) << "saving must change nothing";
    auto checkpoint = opened(directory / checkpoint_name(kSavedAt));
    for (const std::size_t j : {(i + 1) % modes.size(), modes.size() - 1 - i}) {
      EXPECT_EQ(run(modes[j], {}, &checkpoint), rest(expected)) << "resumed by mode " << j;
    }
  }
}

TEST_F(CheckpointStatesTest, GoesOnWithTheSameBitsWithEveryOptimizerAndFormat) {
  const auto expect_resumes = [&](const Config& saving, const Config& resuming) {
    const std::filesystem::path directory = saved_ / "some";
    std::filesystem::create_directory(directory);
    const Trace expected = run(saving, directory);
    auto checkpoint = opened(directory / checkpoint_name(kSavedAt));
    EXPECT_EQ(run(resuming, {}, &checkpoint), rest(expected))
        << to_string(saving.optimizer.kind) << " " << to_string(saving.optimizer.state_dtype) << " "
        << to_string(saving.dtype);
    std::filesystem::remove_all(directory);
  };
  for (const Dtype dtype : {Dtype::kFp32, Dtype::kBf16}) {
    for (const StateDtype states : {StateDtype::kFp32, StateDtype::kBf16, StateDtype::kInt8}) {
      const auto formatted = [&](Config config, OptimizerKind kind) {
        config.dtype = dtype;
        config.optimizer.state_dtype = states;
        config.optimizer.kind = kind;
        if (kind == OptimizerKind::kLion) config.optimizer.learning_rate = 1e-4;
        return config;
      };
      const OptimizerKind kind = states == StateDtype::kBf16   ? OptimizerKind::kLion
                                 : states == StateDtype::kInt8 ? OptimizerKind::kAdamW
                                                               : OptimizerKind::kAdagrad;
      Config other = formatted(config(OffloadDevice::kCpu, OffloadDevice::kNvme), kind);
      other.sub_group_size = 4'444;
      expect_resumes(formatted(in_memory(), kind), other);
    }
  }
}

class ElasticTest : public CheckpointStatesTest {
 protected:
  // Loads `from` on `count` ranks and saves it again, as step `step` of `to`.
  void pass_on(const std::filesystem::path& from, const std::filesystem::path& to,
               std::uint64_t step, std::uint32_t count, const Config& config) {
    ThreadRanks ranks(count);
    std::vector<std::unique_ptr<ZeroEngine>> engines;
    for (std::uint32_t rank = 0; rank < count; ++rank) {
      engines.push_back(own_engine(config, ranks[rank]));
    }
    ranks.meet();
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < count; ++rank) {
      threads.emplace_back([&, rank] {
        auto checkpoint = opened(from);
        const auto notes = load_checkpoint(engines[rank]->quiet_states(), checkpoint);
        if (rank == 0) notes_ = notes;
        save_checkpoint(engines[rank]->quiet_states(), {.step = step}, to,
                        *make_checkpoint_files());
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  void save_trained(const Config& config) {
    const auto engine = own_engine(config, *ranks_);
    train_own(*engine);
    save_checkpoint(engine->quiet_states(), {.step = 1}, saved_.path(), *files_);
  }

  std::vector<std::string> notes_;
};

TEST_F(ElasticTest, AnyNumberOfRanksHoldsTheSameValues) {
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
    Config one = in_memory(), several = config(OffloadDevice::kNvme, OffloadDevice::kNvme);
    one.dtype = several.dtype = dtype;
    one.sub_group_size = 1'000;
    several.sub_group_size = 384;
    save_trained(one);
    const std::string expected = bytes_of(at(1) / "rank-0000.bin");
    ASSERT_GT(expected.size(), 10'000u);
    for (const std::uint32_t count : {1, 2, 3, 4}) {
      SCOPED_TRACE(count);
      pass_on(at(1), saved_.path(), 2, count, several);
      EXPECT_EQ(opened(at(2)).shards().size(), count);
      pass_on(at(2), saved_.path(), 3, 1, one);
      EXPECT_EQ(bytes_of(at(3) / "rank-0000.bin") == expected, true) << "other bytes";
      EXPECT_TRUE(notes_.empty());
      std::filesystem::remove_all(at(2));
      std::filesystem::remove_all(at(3));
    }
    std::filesystem::remove_all(at(1));
  }
}

TEST_F(ElasticTest, Int8BlocksThatAreCutElsewhereAreRoundedAgainAndThatIsSaid) {
  Config one = in_memory();
  one.optimizer.state_dtype = StateDtype::kInt8;
  save_trained(one);
  pass_on(at(1), saved_.path(), 2, 1, one);
  EXPECT_TRUE(notes_.empty());
  EXPECT_EQ(bytes_of(at(1) / "rank-0000.bin"), bytes_of(at(2) / "rank-0000.bin"));
  pass_on(at(1), saved_.path(), 3, 3, one);
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_THAT(notes_[0], HasSubstr("rounded again"));
}

TEST_F(CheckpointStatesTest, AnotherModelOptimizerOrSeedIsRefusedByName) {
  run(in_memory(), saved_.path());
  auto checkpoint = opened(saved_ / checkpoint_name(kSavedAt));
  const auto refusal = [&](const std::function<void(Config&)>& change) -> std::string {
    Config changed = in_memory();
    change(changed);
    try {
      run(changed, {}, &checkpoint);
    } catch (const Failure& failure) {
      return failure.what();
    }
    return "not refused";
  };
  EXPECT_THAT(refusal([](Config& config) { config.seed = 8; }), HasSubstr("seed"));
  EXPECT_THAT(refusal([](Config& config) { config.dtype = Dtype::kFp32; }), HasSubstr("bf16"));
  EXPECT_THAT(refusal([](Config& config) { config.optimizer.kind = OptimizerKind::kLion; }),
              HasSubstr("optimizer is AdamW there and Lion"));
  EXPECT_THAT(refusal([](Config& config) { config.optimizer.state_dtype = StateDtype::kInt8; }),
              HasSubstr("state_dtype"));
  const auto engine = own_engine(in_memory(), *ranks_);
  EXPECT_THROW(load_checkpoint(engine->quiet_states(), checkpoint), Failure);
}

TEST_F(CheckpointStatesTest, AFlippedBitIsNeverTrainedOn) {
  run(in_memory(), saved_.path());
  const std::filesystem::path shard = saved_ / checkpoint_name(kSavedAt) / "rank-0000.bin";
  std::string bytes = bytes_of(shard);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  std::ofstream(shard, std::ios::binary | std::ios::trunc) << bytes;
  auto checkpoint = opened(saved_ / checkpoint_name(kSavedAt));
  try {
    run(in_memory(), {}, &checkpoint);
    ADD_FAILURE() << "it was loaded";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().kind, ErrorKind::kCorrupt);
    EXPECT_THAT(failure.what(), HasSubstr("rank-0000.bin"));
  }
}

// Each call of the protocol fails in turn, and the machine loses what was not synced after each.
enum class Form { kFromMemory, kLinked, kCloned, kCopied };

class ProtocolTest : public CheckpointStatesTest, public ::testing::WithParamInterface<Form> {
 protected:
  ProtocolTest()
      : engine_(own_engine(GetParam() == Form::kFromMemory
                               ? in_memory()
                               : config(OffloadDevice::kNvme, OffloadDevice::kNvme),
                           *ranks_)) {
    save_checkpoint(engine_->quiet_states(), {.step = 1}, saved_.path(), *files_);
  }
  void save_second(CheckpointFiles& files) {
    save_checkpoint(engine_->quiet_states(), {.step = 2}, saved_.path(), files);
  }
  static bool whole(const std::filesystem::path& path) {
    return opened(path).verify([](const Error&) {}) == 0;
  }
  static FaultyFiles faulty() {
    FaultyFiles files;
    files.links = GetParam() == Form::kLinked;
    files.clones = GetParam() == Form::kCloned;
    return files;
  }
  std::uint64_t calls_of_a_save() {
    FaultyFiles files = faulty();
    save_second(files);
    std::filesystem::remove_all(saved_ / checkpoint_name(2));
    return files.calls;
  }

  std::unique_ptr<ZeroEngine> engine_;
};

TEST_P(ProtocolTest, WhicheverCallFailsTheOneBeforeStays) {
  const std::uint64_t calls = calls_of_a_save();
  ASSERT_GT(calls, 8u);
  for (const auto& [error, once] : {std::pair(EIO, true), std::pair(ENOSPC, false)}) {
    for (std::uint64_t call = 0; call < calls; ++call) {
      FaultyFiles files = faulty();
      files.fail_at = call;
      files.error = error;
      files.once = once;
      EXPECT_THROW(save_second(files), Failure) << "call " << call << ": " << files.failed_call;
      ASSERT_TRUE(whole(saved_ / checkpoint_name(1)));
      EXPECT_FALSE(std::filesystem::exists(saved_ / (checkpoint_name(2) + kUnfinishedSuffix)));
      // When only the last sync failed it has its name already, and must be whole.
      if (std::filesystem::exists(saved_ / checkpoint_name(2))) {
        EXPECT_EQ(files.failed_call, "sync_directory");
        EXPECT_TRUE(whole(saved_ / checkpoint_name(2)));
        std::filesystem::remove_all(saved_ / checkpoint_name(2));
      }
    }
  }
}

TEST_P(ProtocolTest, ACrashAfterAnyCallLeavesTheOldOneOrTheNew) {
  const std::uint64_t calls = calls_of_a_save();
  for (std::uint64_t call = 0; call <= 2 * calls + 1; ++call) {
    const bool renames_survive = call % 2 == 1;
    SCOPED_TRACE("crash after " + std::to_string(call / 2) +
                 " calls, renames survive: " + std::to_string(renames_survive));
    FaultyFiles files = faulty();
    files.fail_at = call / 2;
    try {
      save_second(files);
    } catch (const Failure&) {
    }
    files.crash(renames_survive);
    const auto steps = list_checkpoints(saved_.path());
    ASSERT_FALSE(steps.empty());
    EXPECT_EQ(steps.front(), 1u);
    for (const std::uint64_t step : steps) EXPECT_TRUE(whole(saved_ / checkpoint_name(step)));
    if (call / 2 == calls) {
      EXPECT_EQ(steps.back(), 2u) << "an acknowledged checkpoint is lost";
    }
    std::filesystem::remove_all(saved_ / checkpoint_name(2));
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, ProtocolTest,
                         ::testing::Values(Form::kFromMemory, Form::kLinked, Form::kCloned,
                                           Form::kCopied));

TEST_F(ElasticTest, ARankThatFailsEndsTheOthers) {
  save_trained(in_memory());
  ThreadRanks ranks(2);
  std::vector<std::unique_ptr<ZeroEngine>> engines;
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    engines.push_back(own_engine(in_memory(), ranks[rank]));
  }
  ranks.meet();
  std::string said[2];
  std::vector<std::thread> threads;
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      FaultyFiles files;
      files.fail_at = rank == 1 ? 2 : ~std::uint64_t{0};
      try {
        save_checkpoint(engines[rank]->quiet_states(), {.step = 2}, saved_.path(), files);
      } catch (const Failure& failure) {
        said[rank] = failure.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(said[0], HasSubstr("rank 1 could not"));
  EXPECT_THAT(said[1], HasSubstr("Input/output error"));
  EXPECT_THAT(list_checkpoints(saved_.path()), ::testing::ElementsAre(1));
  EXPECT_FALSE(std::filesystem::exists(saved_ / (checkpoint_name(2) + kUnfinishedSuffix)));
}

}  // namespace
}  // namespace spillway::trainer::testing
