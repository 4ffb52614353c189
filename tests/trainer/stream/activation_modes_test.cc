// Activations in RAM and on NVMe between forward and backward: the same bits, less memory where the
// units compute, every byte counted and verified.
#include <gtest/gtest.h>
#include <spillway/trainer/failure.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "tests/trainer/zero/graph_fixture.h"
#include "trainer/plan/backward_memory.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/activation_store.h"
#include "trainer/zero/pass.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 6;

class ActivationModesTest : public GraphTest {
 protected:
  Config config(OffloadDevice activations, Dtype dtype = Dtype::kBf16) const {
    Config config = tiny_training(scratch_.path());
    config.dtype = dtype;
    config.activations.device = activations;
    config.activations.nvme_path = scratch_.path();
    return config;
  }
  Trace run(const Config& config, const GptConfig& gpt = tiny_gpt()) {
    return train(config, gpt, *ranks_, kSteps);
  }
  Config own_config(OffloadDevice activations, std::int64_t samples) const {
    Config own = config(activations, Dtype::kFp32);
    own.train_batch_size = samples;
    own.micro_batch_size = samples / 4;
    own.gradient_accumulation_steps = 4;
    return own;
  }
  Trace own_trace(OffloadDevice activations, std::int64_t samples, const Graph& graph) {
    return train_graph(own_config(activations, samples), graph, /*steps=*/3);
  }
  void expect_same_bits(std::int64_t samples, const Graph& graph) {
    const Trace expected = own_trace(OffloadDevice::kNone, samples, graph);
    EXPECT_EQ(expected, own_trace(OffloadDevice::kCpu, samples, graph));
    EXPECT_EQ(expected, own_trace(OffloadDevice::kNvme, samples, graph));
  }
};

TEST_F(ActivationModesTest, EveryPlaceGivesTheSameBits) {
  GptConfig dropped = tiny_gpt();
  dropped.attn_pdrop = dropped.embd_pdrop = dropped.resid_pdrop = 0.1;
  for (const GptConfig& gpt : {tiny_gpt(), dropped}) {
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
      const Trace expected = run(config(OffloadDevice::kNone, dtype), gpt);
      EXPECT_EQ(expected, run(config(OffloadDevice::kCpu, dtype), gpt));
      Config nvme = config(OffloadDevice::kNvme, dtype);
      EXPECT_EQ(expected, run(nvme, gpt));
      nvme.offload_param.device = nvme.offload_optimizer.device = OffloadDevice::kNvme;
      nvme.gradients.device = OffloadDevice::kNvme;
      nvme.gradients.nvme_path = scratch_.path();
      EXPECT_EQ(expected, run(nvme, gpt)) << "with all else on NVMe too";
    }
  }
}

TEST_F(ActivationModesTest, ATensorThatSeveralUnitsTake) { expect_same_bits(200, run_all); }

TEST_F(ActivationModesTest, AUnitThatTakesATensorTwice) {
  expect_same_bits(200, [](zero::Pass& pass, const Samples& samples) {
    at::Tensor x = zero::run(pass, kLift, {samples.points});
    for (int i = 0; i < 3; ++i) {
      x = zero::run(pass, kResidual, {x});
      x = zero::run(pass, kGate, {x, x, samples.points});
    }
    return x.square().mean();
  });
}

TEST_F(ActivationModesTest, ActivationsOfManyTilesAndOtherOrders) {
  // 3.7 MiB each: two tiles. Backward takes what the two branches left in turns.
  expect_same_bits(40'000, [](zero::Pass& pass, const Samples& samples) {
    const Samples other{samples.points.neg(), samples.wanted};
    return run_all(pass, samples) + run_all(pass, other);
  });
}

TEST_F(ActivationModesTest, AGraphThatIsDroppedGivesItsPlacesBack) {
  expect_same_bits(200, [](zero::Pass& pass, const Samples& samples) {
    const at::Tensor unused = run_all(pass, {samples.points.neg(), samples.wanted});
    return run_all(pass, samples) + 0 * unused.item<double>();
  });
}

TEST_F(ActivationModesTest, BytesAndMemoryAreThoseOfTheFormula) {
  GptConfig gpt = tiny_gpt();
  gpt.n_layer = 6;
  const std::uint64_t bytes = 8 * 32 * 64 * 2;  // samples, tokens, width, bf16
  const ActivationSizes sizes{.bytes = std::vector<std::uint64_t>(gpt.n_layer + 1u, bytes)};
  for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    const Config config = this->config(device);
    std::vector<StepReport> reports;
    const WaitingBytes told = activation_bytes(config.activations, sizes);
    train(config, gpt, *ranks_, 3, &reports, [&](ZeroEngine& engine, const GptUnits&) {
      EXPECT_EQ(engine.activations().memory_bytes(), told.ram);
      EXPECT_EQ(engine.activations().storage_bytes(), told.nvme);
      EXPECT_EQ(engine.activations().peak_computing_bytes(), told.computing);
      EXPECT_EQ(engine.states().tiers().buffer_bytes(), told.buffers);
    });
    for (const StepReport& report : reports) {
      EXPECT_EQ(report.nvme_written_bytes, told.nvme);
      EXPECT_EQ(report.nvme_read_bytes, told.nvme);
    }
  }
}

TEST_F(ActivationModesTest, WhatHasLeftTakesNoMemoryWhereUnitsCompute) {
  for (const OffloadDevice device : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
    ZeroEngine engine(own_config(device, 200), own_model(), *ranks_, at::kCPU);
    const Samples samples = samples_of(1, 200);
    int alive = 0;
    engine.step([&](zero::Pass& pass) {
      std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> storages;
      at::Tensor x = zero::run(pass, kLift, {samples.points});
      for (int i = 0; i < 5; ++i) {
        storages.emplace_back(
            c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(x.storage().unsafeGetStorageImpl()));
        x = zero::run(pass, kResidual, {x});
      }
      for (const auto& storage : storages) alive += storage.expired() ? 0 : 1;
      return x.square().mean();
    });
    EXPECT_EQ(alive, device == OffloadDevice::kNone ? 5 : 1) << "the last one waits here";
  }
}

// One operation in four is saved: the forward's.
TEST_F(ActivationModesTest, AKeptGraphIsNotComputedAgain) {
  struct Counting final : Unit {
    int* forwards;
    torch::nn::Linear scale = register_module("scale", torch::nn::Linear(kInputs, kInputs));
    explicit Counting(int* count) : forwards(count) {}
    at::Tensor forward(const std::vector<at::Tensor>& inputs, const ForwardContext&) override {
      ++*forwards;
      return scale(inputs[0]);
    }
  };
  for (const bool checkpointing : {true, false}) {
    int forwards = 0;
    ModelSpec model;
    model.add({"counting", [&] { return std::make_shared<Counting>(&forwards); }, {}});
    Config config = own_config(OffloadDevice::kNone, 200);
    config.activations.checkpointing = checkpointing;
    ZeroEngine engine(config, model, *ranks_, at::kCPU);
    engine.step([&](zero::Pass& pass) {
      return zero::run(pass, 0, {samples_of(1, 200).points}).square().mean();
    });
    const int chunks = static_cast<int>(config.gradient_accumulation_steps);
    EXPECT_EQ(forwards, checkpointing ? 2 * chunks : chunks);
  }
}

TEST_F(ActivationModesTest, AFlippedBitIsFound) {
  const std::int64_t samples = 200;
  ZeroEngine engine(own_config(OffloadDevice::kNvme, samples), own_model(), *ranks_, at::kCPU);
  const Samples drawn = samples_of(1, samples);
  const auto corrupt = [&](zero::Pass& pass) {
    at::Tensor x = zero::run(pass, kLift, {drawn.points});
    for (int i = 0; i < 3; ++i) x = zero::run(pass, kResidual, {x});
    const std::uint64_t moved = 2 * samples * kWidth * sizeof(float);
    while (pass.state()->states->tiers().nvme_written_bytes() < moved) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const auto path = scratch_.path() / "spillway-rank-0" / "spillway-activation-0-0.seg";
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    char byte = 0;
    file.seekg(100).get(byte);
    file.seekp(100).put(static_cast<char>(byte ^ 1));
    EXPECT_TRUE(file.flush().good()) << path;
    return x.square().mean();
  };
  try {
    engine.step(corrupt);
    FAIL() << "the flipped bit was not found";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().kind, ErrorKind::kCorrupt);
    EXPECT_NE(failure.error().message().find("activation"), std::string::npos)
        << failure.error().message();
  }
}

TEST_F(ActivationModesTest, InferenceInsideAStepMovesNothing) {
  const Graph graph = [](zero::Pass& pass, const Samples& samples) {
    const at::NoGradGuard no_graph;
    const at::Tensor weight = run_all(pass, samples).detach();
    const at::AutoGradMode record(true);
    return run_all(pass, samples) * weight;
  };
  expect_same_bits(200, graph);
}

}  // namespace
}  // namespace spillway::trainer::testing
