// Bitwise the same losses and gradient norms wherever the states live and however they move.
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "tests/support/scratch.h"
#include "tests/trainer/support/tiny_gpt.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 20;

class ModesTest : public ::testing::Test {
 protected:
  Trace run(const Config& config, const GptConfig& gpt = tiny_gpt(), int steps = kSteps) {
    return train(config, gpt, *ranks_, steps);
  }
  Config config() const { return tiny_training(scratch_.path()); }
  static Config offloaded(Config config, OffloadDevice param, OffloadDevice optimizer) {
    config.offload_param.device = param;
    config.offload_optimizer.device = optimizer;
    return config;
  }
  Config all_nvme() const {
    return offloaded(config(), OffloadDevice::kNvme, OffloadDevice::kNvme);
  }

  Scratch scratch_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

void expect_same(const Trace& expected, const Trace& actual) {
  ASSERT_EQ(expected.losses.size(), actual.losses.size());
  for (std::size_t i = 0; i < expected.losses.size(); ++i) {
    EXPECT_EQ(expected.losses[i], actual.losses[i]) << "loss of step " << i + 1;
    EXPECT_EQ(expected.grad_norms[i], actual.grad_norms[i]) << "norm of step " << i + 1;
  }
}

TEST_F(ModesTest, AllNinePairsOfOffloadGiveTheSameBits) {
  const Trace expected = run(config());
  EXPECT_LT(expected.losses.back(), 0.8 * expected.losses.front()) << "it must learn";
  const OffloadDevice devices[] = {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme};
  for (const OffloadDevice param : devices) {
    for (const OffloadDevice optimizer : devices) {
      SCOPED_TRACE(std::string(to_string(param)) + " " + to_string(optimizer));
      expect_same(expected, run(offloaded(config(), param, optimizer)));
    }
  }
}

TEST_F(ModesTest, UpdatingInForwardOrderGivesTheSameBits) {
  constexpr int kFewSteps = 6;
  GptConfig untied = tiny_gpt();
  untied.tie_word_embeddings = false;
  const Trace expected = run(config(), tiny_gpt(), kFewSteps);
  const Trace expected_untied = run(config(), untied, kFewSteps);
  for (const OffloadDevice param : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
    for (const OffloadDevice optimizer : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
      for (const std::uint64_t cached : {0, 40'000}) {
        SCOPED_TRACE(std::string(to_string(param)) + " " + to_string(optimizer));
        Config forward = offloaded(config(), param, optimizer);
        forward.update_order = UpdateOrder::kForward;
        forward.offload_param.max_in_cpu_elements = cached;
        forward.offload_optimizer.max_in_cpu_elements = cached;
        expect_same(expected, run(forward, tiny_gpt(), kFewSteps));
        expect_same(expected_untied, run(forward, untied, kFewSteps));
      }
    }
  }
}

TEST_F(ModesTest, InForwardOrderNoWeightIsReadForTheForward) {
  GptConfig untied = tiny_gpt();
  untied.tie_word_embeddings = false;
  std::vector<StepReport> plain, forward;
  const Trace expected = train(all_nvme(), untied, *ranks_, 4, &plain);
  Config config = all_nvme();
  config.update_order = UpdateOrder::kForward;
  StepReport rest;
  const auto finish = [&](ZeroEngine& engine, const GptUnits&) {
    if (engine.steps_done() == 4) rest = engine.finish_update();
  };
  expect_same(expected, train(config, untied, *ranks_, 4, &forward, finish));
  const auto total = [](const std::vector<StepReport>& reports, auto member) {
    std::uint64_t bytes = 0;
    for (const StepReport& report : reports) bytes += report.*member;
    return bytes;
  };
  EXPECT_EQ(total(plain, &StepReport::nvme_written_bytes),
            total(forward, &StepReport::nvme_written_bytes) + rest.nvme_written_bytes);
  // Of four forwards only the first reads; some weights read ahead for a fifth are let go.
  const std::uint64_t weights = plain[0].nvme_read_bytes - plain[0].nvme_written_bytes;
  const std::uint64_t read =
      total(forward, &StepReport::nvme_read_bytes) + rest.nvme_read_bytes + 3 * weights / 2;
  EXPECT_NEAR(static_cast<double>(read),
              static_cast<double>(total(plain, &StepReport::nvme_read_bytes)),
              0.02 * static_cast<double>(read));
}

TEST_F(ModesTest, FullPrecisionGivesTheSameBits) {
  Config none = config();
  none.dtype = Dtype::kFp32;
  Config nvme = all_nvme();
  nvme.dtype = Dtype::kFp32;
  expect_same(run(none), run(nvme));
}

TEST_F(ModesTest, TileSizeDoesNotChangeBits) {
  constexpr int kFewSteps = 6;  // tiny tiles are many
  const Trace expected = run(config(), tiny_gpt(), kFewSteps);
  for (const std::uint64_t elements : {777ull, 4096ull, 65'536ull, 1'000'000'000ull}) {
    SCOPED_TRACE(elements);
    Config nvme = all_nvme();
    nvme.sub_group_size = elements;
    expect_same(expected, run(nvme, tiny_gpt(), kFewSteps));
  }
}

TEST_F(ModesTest, EngineSettingsDoNotChangeBits) {
  constexpr int kFewSteps = 8;
  const Trace expected = run(config(), tiny_gpt(), kFewSteps);
  for (const auto backend : {aio::BackendKind::kThreadPool, aio::BackendKind::kIoUring}) {
    for (const std::uint32_t block : {4096u, 65'536u, 1u << 20}) {
      SCOPED_TRACE(block);
      Config nvme = all_nvme();
      nvme.aio.backend = backend;
      nvme.aio.block_size_bytes = block;
      nvme.aio.queue_depth = block == 4096 ? 1 : 8;
      nvme.aio.thread_count = block == 65'536 ? 3 : 1;
      const auto possible = aio::Engine::create(nvme.aio);
      if (!possible) {
        std::printf("not run here: %s\n", possible.error().message().c_str());
        continue;
      }
      expect_same(expected, run(nvme, tiny_gpt(), kFewSteps));
    }
  }
}

TEST_F(ModesTest, CachingDoesNotChangeBitsAndSavesItsShare) {
  const Trace expected = run(config());
  std::vector<StepReport> uncached, cached;
  expect_same(expected, train(all_nvme(), tiny_gpt(), *ranks_, kSteps, &uncached));
  Config half = all_nvme();
  half.offload_optimizer.max_in_cpu_elements = 60'000;
  half.offload_param.max_in_cpu_elements = 60'000;
  expect_same(expected, train(half, tiny_gpt(), *ranks_, kSteps, &cached));
  EXPECT_LT(cached[5].nvme_read_bytes, 0.6 * uncached[5].nvme_read_bytes);
  EXPECT_LT(cached[5].nvme_written_bytes, 0.6 * uncached[5].nvme_written_bytes);
  Config whole = half;
  whole.offload_optimizer.max_in_cpu_elements = whole.offload_param.max_in_cpu_elements = 1 << 30;
  std::vector<StepReport> none;
  expect_same(expected, train(whole, tiny_gpt(), *ranks_, kSteps, &none));
  EXPECT_EQ(none[5].nvme_read_bytes + none[5].nvme_written_bytes, 0u);
}

TEST_F(ModesTest, DropoutAndUntiedEmbeddings) {
  GptConfig gpt = tiny_gpt();
  gpt.tie_word_embeddings = false;
  gpt.attn_pdrop = gpt.embd_pdrop = gpt.resid_pdrop = 0.1;
  const Trace expected = run(config(), gpt);
  expect_same(expected, run(all_nvme(), gpt));
  EXPECT_NE(expected.losses, run(config()).losses);
}

TEST_F(ModesTest, AccumulationChangesRoundingOnlyAndNoBytes) {
  std::vector<StepReport> four, one;
  const Trace chunks = train(all_nvme(), tiny_gpt(), *ranks_, kSteps, &four);
  Config whole = all_nvme();
  whole.micro_batch_size = 8;
  whole.gradient_accumulation_steps = 1;
  const Trace together = train(whole, tiny_gpt(), *ranks_, kSteps, &one);
  EXPECT_NEAR(chunks.losses.front(), together.losses.front(), 1e-3);
  EXPECT_NEAR(chunks.losses.back(), together.losses.back(), 0.05 * together.losses.back());
  EXPECT_EQ(four[3].nvme_read_bytes, one[3].nvme_read_bytes);
  EXPECT_EQ(four[3].nvme_written_bytes, one[3].nvme_written_bytes);
}

TEST_F(ModesTest, InferenceBetweenStepsDisturbsNothing) {
  GptConfig gpt = tiny_gpt();
  gpt.tie_word_embeddings = false;
  constexpr int kFewSteps = 5;
  const Trace expected = run(all_nvme(), gpt, kFewSteps);
  std::vector<std::int64_t> first;
  const auto infer = [&](ZeroEngine& engine, const GptUnits& units) {
    zero::Pass pass = engine.inference_pass();
    const auto tokens = generate(pass, units, gpt.n_positions, {1, 2, 3}, {.tokens = 4, .seed = 5});
    EXPECT_EQ(tokens.size(), 7u);
    EXPECT_EQ(tokens[2], 3) << "the prompt comes first";
    for (const std::int64_t token : tokens) EXPECT_LT(token, gpt.vocab_size);
    if (first.empty()) first = tokens;
  };
  expect_same(expected, train(all_nvme(), gpt, *ranks_, kFewSteps, nullptr, infer));
  // The same seed and weights generate the same tokens.
  const std::vector<std::int64_t> before = std::exchange(first, {});
  expect_same(expected, train(config(), gpt, *ranks_, kFewSteps, nullptr, infer));
  Config forward = all_nvme();
  forward.update_order = UpdateOrder::kForward;
  expect_same(expected, train(forward, gpt, *ranks_, kFewSteps, nullptr, infer));
  EXPECT_EQ(first, before);
}

TEST_F(ModesTest, AKeptGraphGivesTheBitsOfRecomputation) {
  GptConfig dropped = tiny_gpt();
  dropped.attn_pdrop = dropped.embd_pdrop = dropped.resid_pdrop = 0.1;
  for (const GptConfig& gpt : {tiny_gpt(), dropped}) {
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
      Config kept = config();
      kept.dtype = dtype;
      const Trace expected = run(kept, gpt);
      kept.activations.checkpointing = false;
      expect_same(expected, run(kept, gpt));
      expect_same(expected, run(offloaded(kept, OffloadDevice::kNvme, OffloadDevice::kCpu), gpt));
    }
  }
}

TEST_F(ModesTest, NothingIsLeftInTheDirectory) {
  run(all_nvme());
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
}

}  // namespace
}  // namespace spillway::trainer::testing
