// A stored block of the optimizer's states that changed: the step fails, nothing is made of it.
#include <gtest/gtest.h>
#include <spillway/trainer/failure.h>

#include <fstream>

#include "tests/support/flip_byte.h"
#include "tests/support/scratch.h"
#include "tests/trainer/support/tiny_gpt.h"

namespace spillway::trainer::testing {
namespace {

class DamagedStatesTest : public ::testing::TestWithParam<StateDtype> {
 protected:
  DamagedStatesTest() {
    config_ = tiny_training(scratch_.path());
    config_.offload_param.device = OffloadDevice::kCpu;  // updated in place, in the same pass
    config_.offload_optimizer.device = OffloadDevice::kNvme;
    config_.offload_param.max_in_cpu_elements = config_.offload_optimizer.max_in_cpu_elements = 0;
    config_.optimizer.state_dtype = GetParam();
  }

  struct Byte {
    std::filesystem::path file;
    std::uint64_t offset = 0;
  };
  // The middle of the first file of the optimizer's states that is not of padding.
  Byte a_stored_byte() const {
    std::filesystem::path found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(scratch_.path())) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("spillway-optimizer-0")) found = entry.path();
    }
    std::vector<char> bytes(std::filesystem::file_size(found));
    std::ifstream(found, std::ios::binary).read(bytes.data(), std::streamsize(bytes.size()));
    std::uint64_t at = bytes.size() / 3;
    while (bytes[at] == 0) --at;
    return {found, at};
  }
  template <typename Call>
  static void expect_corrupt(const Call& call) {
    try {
      call();
      FAIL() << "went on";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.error().kind, ErrorKind::kCorrupt) << failure.what();
      EXPECT_NE(std::string(failure.what()).find("plane "), std::string::npos) << failure.what();
    }
  }

  Scratch scratch_;
  Config config_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

TEST_P(DamagedStatesTest, NothingIsTrainedOrSavedFromThem) {
  const GptConfig gpt = tiny_gpt();
  int steps = 0;
  const auto after_step = [&](ZeroEngine& engine, const GptUnits& units) {
    if (++steps < 2) return;
    const auto step = [&] {
      (void)engine.step([&](zero::Pass& pass) {
        const at::Tensor tokens = sample_tokens(9, 8, gpt.n_positions + 1, gpt.vocab_size);
        return gpt_token_losses(pass, units, tokens.narrow(1, 0, gpt.n_positions),
                                tokens.narrow(1, 1, gpt.n_positions))
            .sum();
      });
    };
    const Byte byte = a_stored_byte();
    flip_byte(byte.file, byte.offset);
    expect_corrupt(step);
    // The weights in memory may be made of the damaged bytes by now. That these are good again, as
    // after an error of the way from the drive, changes nothing.
    flip_byte(byte.file, byte.offset);
    expect_corrupt(step);
    expect_corrupt([&] { (void)engine.quiet_states(); });
    expect_corrupt([&] { (void)engine.inference_pass(); });
    expect_corrupt([&] { (void)engine.finish_update(); });
  };
  (void)train(config_, gpt, *ranks_, 2, nullptr, after_step);
  EXPECT_EQ(steps, 2);
}

TEST_P(DamagedStatesTest, TheSameInTheBackground) {
  config_.update_order = UpdateOrder::kForward;
  const GptConfig gpt = tiny_gpt();
  int steps = 0;
  const auto after_step = [&](ZeroEngine& engine, const GptUnits&) {
    if (++steps == 2) {
      (void)engine.quiet_states();  // what is stored now is read by the next update
      const Byte byte = a_stored_byte();
      flip_byte(byte.file, byte.offset);
    }
    if (steps == 3) (void)engine.finish_update();
  };
  expect_corrupt([&] { (void)train(config_, gpt, *ranks_, 4, nullptr, after_step); });
  EXPECT_LE(steps, 3);
}

std::string name_of(const ::testing::TestParamInfo<StateDtype>& states) {
  constexpr const char* kNames[] = {"fp32", "bf16", "int8"};
  return kNames[static_cast<int>(states.param)];
}

INSTANTIATE_TEST_SUITE_P(States, DamagedStatesTest,
                         ::testing::Values(StateDtype::kFp32, StateDtype::kBf16, StateDtype::kInt8),
                         name_of);

}  // namespace
}  // namespace spillway::trainer::testing
