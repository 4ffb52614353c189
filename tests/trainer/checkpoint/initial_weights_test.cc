// A training begins with the weights that it is given: masters bitwise, moments zero.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/weight_export.h>
#include "trainer/checkpoint/files.h"
#include "trainer/kernels/hi_lo.h"
#include "trainer/models/gpt2/family.h"
#include "trainer/states/model_states.h"
#include "trainer/zero/pass.h"

#include <bit>
#include <cstring>
#include <thread>

#include "tests/support/scratch.h"
#include "tests/trainer/support/thread_ranks.h"
#include "tests/trainer/support/tiny_gpt.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;

// Bits that any float may have, but for NaN.
float value_of(const std::string& parameter, std::uint64_t at) {
  auto bits = static_cast<std::uint32_t>(std::hash<std::string>()(parameter) + at * 2654435761u);
  if ((bits & 0x7f800000u) == 0x7f800000u) bits &= ~0x00800000u;
  return std::bit_cast<float>(bits);
}

Result<void> give(const std::string& parameter, std::uint64_t first, std::span<float> to) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = value_of(parameter, first + i);
  return {};
}

GptConfig gpt(bool tied) {
  GptConfig config = tiny_gpt();
  config.tie_word_embeddings = tied;
  return config;
}

// The checkpoint's planes are the masters, and zero but for them.
void expect_given(const std::filesystem::path& directory, Dtype dtype) {
  auto checkpoint = Checkpoint::open(directory);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  const CheckpointManifest& manifest = checkpoint->manifest();
  const std::uint32_t weight_planes = dtype == Dtype::kBf16 ? 2 : 1;
  for (std::uint32_t number = 0; number < manifest.parameters.size(); ++number) {
    const std::string& name = manifest.parameters[number].name;
    const std::uint64_t elements = element_count(manifest.parameters[number]);
    for (std::uint32_t plane = 0; plane < checkpoint->planes().all.size(); ++plane) {
      const swapper::Plane& format = checkpoint->planes().all[plane];
      if (format.elements_per_block != 1) continue;  // scales of zeros
      std::uint64_t at = 0;
      for (const Checkpoint::Run& run : checkpoint->find(number, 0, elements)) {
        std::vector<std::byte> bytes(run.count * format.bytes_per_block);
        ASSERT_TRUE(
            checkpoint->read(run.shard, run.extent, plane, run.offset, run.count, bytes.data()));
        for (std::uint64_t i = 0; i < run.count; ++i, ++at) {
          std::uint32_t found = 0, expected = 0;
          std::memcpy(&found, bytes.data() + i * format.bytes_per_block, format.bytes_per_block);
          const HiLo halves = hi_lo_split(value_of(name, at));
          if (plane < weight_planes) {
            expected = dtype == Dtype::kFp32 ? std::bit_cast<std::uint32_t>(value_of(name, at))
                                             : (plane == 0 ? halves.hi : halves.lo);
          }
          ASSERT_EQ(found, expected) << name << " " << format.name << " " << at;
        }
      }
    }
  }
}

class InitialWeightsTest : public ::testing::Test {
 protected:
  Config config(OffloadDevice device, Dtype dtype) const {
    Config config = tiny_training(swap_.path());
    config.dtype = dtype;
    config.offload_param.device = config.offload_optimizer.device = device;
    config.offload_param.max_in_cpu_elements = config.offload_optimizer.max_in_cpu_elements = 0;
    return config;
  }
  Scratch swap_;
  Scratch saved_;
  std::unique_ptr<CheckpointFiles> files_ = make_checkpoint_files();
};

TEST_F(InitialWeightsTest, MastersAreTheSourcesAndMomentsZeroInEveryMode) {
  const auto ranks = Communicator::from_environment(at::kCPU);
  std::uint64_t number = 0;
  for (const OffloadDevice device :
       {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
      ++number;
      // After steps, so that there are moments to clear.
      const auto replace = [&](ZeroEngine& engine, const GptUnits&) {
        set_initial_weights(engine.quiet_states(), give);
        save_checkpoint(engine.quiet_states(),
                        {.step = number, .model = saved_model(*gpt2_model(gpt(true)))},
                        saved_.path(), *files_);
      };
      train(config(device, dtype), gpt(true), *ranks, 1, nullptr, replace);
      const auto directory = saved_ / checkpoint_name(number);
      expect_given(directory, dtype);
      const auto checkpoint = Checkpoint::open(directory);
      const auto is_gpt2 = check_layout(checkpoint->manifest(), default_family(), "x");
      EXPECT_TRUE(is_gpt2) << is_gpt2.error().message();
    }
  }
}

TEST_F(InitialWeightsTest, ValuesThatAreToComeAreWrittenOnce) {
  const auto ranks = Communicator::from_environment(at::kCPU);
  ModelSpec model;
  add_gpt(model, gpt(true));
  ZeroEngine engine(config(OffloadDevice::kNvme, Dtype::kBf16), model, *ranks, at::kCPU, nullptr,
                    InitialValues::kLoadedLater);
  const StateTiers& tiers = engine.states().tiers();
  EXPECT_EQ(tiers.nvme_written_bytes(), 0u);
  EXPECT_DEATH(engine.inference_pass(), "set before they are used");
  set_initial_weights(engine.quiet_states(), give);
  EXPECT_LT(tiers.nvme_written_bytes(), 13 * engine.states().parameter_count() + (1 << 20));
  save_checkpoint(engine.quiet_states(), {.step = 1, .model = saved_model(*gpt2_model(gpt(true)))},
                  saved_.path(), *files_);
  expect_given(saved_ / checkpoint_name(1), Dtype::kBf16);
  EXPECT_GT(engine.inference_pass().state()->states->parameter_count(), 0u);
}

TEST_F(InitialWeightsTest, StatesInInt8BeginAtZero) {
  const auto ranks = Communicator::from_environment(at::kCPU);
  Config quantised = config(OffloadDevice::kNvme, Dtype::kBf16);
  quantised.optimizer.state_dtype = StateDtype::kInt8;
  const auto replace = [&](ZeroEngine& engine, const GptUnits&) {
    set_initial_weights(engine.quiet_states(), give);
    save_checkpoint(engine.quiet_states(),
                    {.step = 1, .model = saved_model(*gpt2_model(gpt(false)))}, saved_.path(),
                    *files_);
  };
  train(quantised, gpt(false), *ranks, 1, nullptr, replace);
  expect_given(saved_ / checkpoint_name(1), Dtype::kBf16);
  EXPECT_TRUE(check_layout(Checkpoint::open(saved_ / checkpoint_name(1))->manifest(),
                           default_family(), "x"));
}

TEST_F(InitialWeightsTest, RanksTakeTheirOwnPartsAndFailTogether) {
  ThreadRanks ranks(2);
  ModelSpec model;
  add_gpt(model, gpt(true));
  const Config nvme = config(OffloadDevice::kNvme, Dtype::kBf16);
  std::vector<std::unique_ptr<ModelStates>> states;
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    states.push_back(std::make_unique<ModelStates>(nvme, model, ranks[rank], at::kCPU));
  }
  ranks.meet();
  const auto both = [&](const std::function<void(std::uint32_t)>& work) {
    std::thread other([&] { work(1); });
    work(0);
    other.join();
  };
  both([&](std::uint32_t rank) {
    set_initial_weights(*states[rank], give);
    const auto files = make_checkpoint_files();
    save_checkpoint(*states[rank], {.step = 1}, saved_.path(), *files);
  });
  expect_given(saved_ / checkpoint_name(1), Dtype::kBf16);

  std::string told[2];
  both([&](std::uint32_t rank) {
    const auto fail_on_one = [&](const std::string& parameter, std::uint64_t first,
                                 std::span<float> to) -> Result<void> {
      if (rank == 0) return give(parameter, first, to);
      return make_error(ErrorKind::kIo, "read", parameter, "simulated");
    };
    try {
      set_initial_weights(*states[rank], fail_on_one);
    } catch (const Failure& failure) {
      told[rank] = failure.error().message();
    }
  });
  EXPECT_THAT(told[1], HasSubstr("simulated"));
  EXPECT_THAT(told[0], HasSubstr("rank 1 could not"));
}

}  // namespace
}  // namespace spillway::trainer::testing
