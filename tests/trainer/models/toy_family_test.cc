// A family that the trainer knows nothing of: registered here, it trains, saves, resumes, is
// exported, imported and estimated.
#include "tests/trainer/models/toy_family.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/estimate.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/weight_export.h>
#include <spillway/trainer/zero_engine.h>
#include <torch/optim/adamw.h>

#include <memory>
#include <optional>
#include <thread>

#include "tests/support/scratch.h"
#include "tests/trainer/support/modules.h"
#include "tests/trainer/support/thread_ranks.h"
#include "trainer/base/seed.h"
#include "trainer/interchange/hf_import.h"
#include "trainer/interchange/weight_reader.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/weight_fetcher.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kSamples = 8, kTarget = 8;
constexpr int kSteps = 5, kSavedAt = 3;
constexpr std::uint64_t kSeed = 5;

at::Tensor tokens(std::uint64_t step, std::uint64_t purpose, std::int64_t length) {
  at::Tensor all = at::empty({kSamples, length}, at::kLong);
  for (std::int64_t i = 0; i < all.numel(); ++i) {
    const auto draw = derive_seed(step, purpose, static_cast<std::uint64_t>(i));
    all.data_ptr<std::int64_t>()[i] = static_cast<std::int64_t>(draw % ToyConfig().vocabulary);
  }
  return all;
}

// Samples [first, first + count) of a step's batch. Some targets do not count.
Batch batch_of(std::uint64_t step, std::int64_t first = 0, std::int64_t count = kSamples,
               std::int64_t source = 7) {
  const at::Tensor text = tokens(step, 1, kTarget + 1).narrow(0, first, count);
  Batch batch;
  batch.inputs = text.narrow(1, 0, kTarget);
  batch.targets = text.narrow(1, 1, kTarget);
  batch.weights = (batch.targets % 4 != 0).to(at::kFloat);
  batch.source = tokens(step, 2, source).narrow(0, first, count);
  return batch;
}

double targets_of(std::uint64_t step) { return batch_of(step).weights.sum().item<double>(); }

struct Trained {
  std::vector<double> losses, grad_norms;
  std::vector<StepReport> reports;  // of rank 0
};

// One rank's model and engine.
struct Side {
  Side(const Config& config, Communicator& ranks) {
    units = add_units(spec, *toy_model({}));
    engine = std::make_unique<ZeroEngine>(config, spec, ranks, at::kCPU);
  }
  ModelSpec spec;
  std::unique_ptr<ModelUnits> units;
  std::unique_ptr<ZeroEngine> engine;
};

class ToyFamilyTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { register_toy_family(); }

  Config config(OffloadDevice device, std::uint32_t world) const {
    Config config;
    config.train_batch_size = kSamples;
    config.micro_batch_size = 2;
    config.gradient_accumulation_steps = kSamples / 2 / world;
    config.dtype = Dtype::kFp32;
    config.gradient_clipping = 0;
    config.sub_group_size = 3000;  // several tiles a unit
    config.offload_param.device = config.offload_optimizer.device = device;
    config.offload_param.max_in_cpu_elements = config.offload_optimizer.max_in_cpu_elements = 0;
    config.offload_param.nvme_path = config.offload_optimizer.nvme_path = swap_.path();
    config.optimizer.learning_rate = 3e-3;
    config.optimizer.weight_decay = 0.1;
    config.seed = kSeed;
    config.update_order = UpdateOrder::kAfterBackward;  // a step's bytes are moved within it
    return config;
  }

  // `work(side, rank)` on every rank at once.
  template <typename Work>
  void on_ranks(const Config& config, std::uint32_t world, const Work& work) {
    ThreadRanks ranks(world);
    std::vector<std::unique_ptr<Side>> sides;
    for (std::uint32_t rank = 0; rank < world; ++rank) {
      sides.push_back(std::make_unique<Side>(config, ranks[rank]));
    }
    ranks.meet();
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < world; ++rank) {
      threads.emplace_back([&, rank] { work(*sides[rank], rank); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  void step(Side& side, std::uint32_t rank, std::uint32_t world, Trained* trained) {
    const std::uint64_t number = side.engine->steps_done() + 1;
    const std::int64_t local = kSamples / world;
    const Batch batch = batch_of(number, rank * local, local, source_);
    const StepReport report = side.engine->step([&](zero::Pass& pass) {
      return side.units->token_losses(pass, batch).sum() / targets_of(number);
    });
    if (rank != 0) return;
    trained->losses.push_back(report.loss);
    trained->grad_norms.push_back(report.grad_norm);
    trained->reports.push_back(report);
  }

  // Trains to kSteps; goes on from the checkpoint saved at kSavedAt, or saves it.
  Trained train(const Config& config, std::uint32_t world, bool resume = false) {
    Trained trained;
    on_ranks(config, world, [&](Side& side, std::uint32_t rank) {
      if (resume) {
        auto checkpoint = value_or_throw(Checkpoint::open(saved()));
        load_checkpoint(side.engine->quiet_states(), checkpoint);
        side.engine->resume_after(checkpoint.manifest().step);
      }
      while (side.engine->steps_done() < kSteps) {
        step(side, rank, world, &trained);
        if (resume || side.engine->steps_done() != kSavedAt || !saves_) continue;
        save_checkpoint(side.engine->quiet_states(),
                        {.step = kSavedAt, .model = saved_model(*toy_model({}))}, saved_.path());
      }
    });
    return trained;
  }
  std::filesystem::path saved() const { return saved_ / checkpoint_name(kSavedAt); }

  Scratch swap_, saved_, out_;
  bool saves_ = false;
  std::int64_t source_ = 7;  // tokens that the encoder reads
};

// The losses of the same model in plain torch.
std::vector<double> plain_losses(const Config& config) {
  ModelSpec spec;
  add_units(spec, *toy_model({}));
  ToyParameters parameters;
  std::vector<at::Tensor> decayed, others;
  const auto modules = make_modules(spec, kSeed);
  for (UnitId id = 0; id < modules.size(); ++id) {
    for (const auto& item : modules[id]->named_parameters()) {
      parameters[spec.units()[id].name + "." + item.key()] = item.value();
      if (!item.value().requires_grad()) continue;
      (item.value().dim() >= 2 ? decayed : others).push_back(item.value());
    }
  }
  const auto options = [&](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(config.optimizer.learning_rate).weight_decay(decay));
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(decayed, options(config.optimizer.weight_decay));
  groups.emplace_back(others, options(0.0));
  torch::optim::AdamW optimizer(groups);
  std::vector<double> losses;
  for (std::uint64_t number = 1; number <= kSteps; ++number) {
    const at::Tensor loss =
        plain_toy_losses({}, parameters, batch_of(number)).sum() / targets_of(number);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    losses.push_back(loss.item<double>());
  }
  return losses;
}

TEST_F(ToyFamilyTest, ItTrainsAsInPlainTorchWhereverItsStatesAre) {
  const std::vector<double> expected = plain_losses(config(OffloadDevice::kNone, 1));
  for (const std::uint32_t world : {1u, 2u}) {
    std::optional<Trained> first;
    for (const OffloadDevice device :
         {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
      const Trained trained = train(config(device, world), world);
      for (int i = 0; i < kSteps; ++i) {
        EXPECT_NEAR(trained.losses[i], expected[i], 1e-5 * expected[i])
            << "step " << i + 1 << ", " << world << " ranks, " << to_string(device);
      }
      if (!first) first = trained;
      EXPECT_EQ(trained.losses, first->losses) << to_string(device);
      EXPECT_EQ(trained.grad_norms, first->grad_norms) << to_string(device);
    }
    Config kept = config(OffloadDevice::kNvme, world);
    kept.activations.checkpointing = false;
    EXPECT_EQ(train(kept, world).losses, first->losses) << "with the graph kept";
    Config moved = config(OffloadDevice::kNvme, world);
    moved.activations.device = OffloadDevice::kNvme;
    moved.activations.nvme_path = swap_.path();
    moved.update_order = UpdateOrder::kBackward;
    EXPECT_EQ(train(moved, world).losses, first->losses) << "activations on NVMe";
  }
}

TEST_F(ToyFamilyTest, ItGoesOnFromACheckpointWithTheSameBits) {
  saves_ = true;
  const Config nvme = config(OffloadDevice::kNvme, 2);
  const Trained whole = train(nvme, 2);
  const Trained rest = train(nvme, 2, /*resume=*/true);
  ASSERT_EQ(rest.losses.size(), std::size_t{kSteps - kSavedAt});
  for (std::size_t i = 0; i < rest.losses.size(); ++i) {
    EXPECT_EQ(rest.losses[i], whole.losses[kSavedAt + i]);
    EXPECT_EQ(rest.grad_norms[i], whole.grad_norms[kSavedAt + i]);
  }
  const Trained alone = train(config(OffloadDevice::kCpu, 1), 1, /*resume=*/true);
  EXPECT_NEAR(alone.losses.back(), whole.losses.back(), 1e-5 * whole.losses.back());
  const auto checkpoint = value_or_throw(Checkpoint::open(saved()));
  EXPECT_THAT(checkpoint.manifest().model, HasSubstr(R"("family":"toy")"));
  const auto model = read_saved_model(checkpoint.manifest().model, "x");
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_EQ((*model)->summary(), "toy: two stacks of 2");
  const auto unknown = read_saved_model(R"({"family": "nobody"})", "x");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(unknown.error().message(), HasSubstr("'nobody'"));
}

TEST_F(ToyFamilyTest, FusedAndTransposedTensorsLeaveAndComeBack) {
  saves_ = true;
  train(config(OffloadDevice::kNvme, 2), 2);
  auto checkpoint = value_or_throw(Checkpoint::open(saved()));
  const CheckpointManifest& manifest = checkpoint.manifest();
  using Sizes = std::pair<std::uint64_t, std::uint64_t>;
  for (const auto& [group, shard] : {Sizes{1'000'000, 100'000'000}, {700, 30'000}, {1, 1}}) {
    const auto report =
        export_weights(checkpoint, out_ / "model",
                       {.layout = &toy_family(), .max_shard_bytes = shard, .group_values = group});
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_LT(report->tensors, manifest.parameters.size()) << "some are fused";
    const auto model = load_hugging_face_config(out_ / "model");
    ASSERT_TRUE(model) << model.error().message();
    EXPECT_EQ((*model)->family().name(), "toy");
    auto weights = HuggingFaceWeights::open(out_ / "model", **model, group);
    ASSERT_TRUE(weights) << weights.error().message();
    WeightReader reader(checkpoint);
    for (std::uint32_t number = 0; number < manifest.parameters.size(); ++number) {
      const CheckpointParameter& parameter = manifest.parameters[number];
      std::vector<float> expected(element_count(parameter)), read(expected.size());
      ASSERT_TRUE(reader.read(number, 0, std::span(expected)));
      ASSERT_TRUE(weights->read(parameter.name, 0, read));
      EXPECT_EQ(read, expected) << parameter.name;
      std::vector<float> part(expected.size() / 3);
      ASSERT_TRUE(weights->read(parameter.name, part.size() + 1, part));
      EXPECT_TRUE(std::equal(part.begin(), part.end(), expected.begin() + part.size() + 1))
          << parameter.name;
    }
    std::filesystem::remove_all(out_ / "model");
  }
  const auto as_gpt = export_weights(checkpoint, out_ / "model", {});
  ASSERT_FALSE(as_gpt);
  EXPECT_THAT(as_gpt.error().message(), HasSubstr("a model that is no GPT"));
}

// Values of a tensor of an exported model.
std::vector<float> tensor_of(const std::filesystem::path& path, const std::string& name) {
  const auto file = value_or_throw(SafetensorsFile::open(path));
  for (const SafeTensor& tensor : file.tensors()) {
    if (tensor.name != name) continue;
    std::vector<float> values((tensor.end - tensor.begin) / sizeof(float));
    value_or_throw(file.read(tensor, 0, std::as_writable_bytes(std::span(values))));
    return values;
  }
  return {};
}

TEST_F(ToyFamilyTest, ASliceLiesWhereTheMapSays) {
  saves_ = true;
  train(config(OffloadDevice::kCpu, 1), 1);
  auto checkpoint = value_or_throw(Checkpoint::open(saved()));
  ASSERT_TRUE(export_weights(checkpoint, out_ / "model", {.layout = &toy_family()}));
  const std::uint64_t d = ToyConfig().width;
  const auto rows = tensor_of(out_ / "model" / "model.safetensors", "encoder.1.qkv");
  const auto columns = tensor_of(out_ / "model" / "model.safetensors", "decoder.1.all");
  ASSERT_EQ(rows.size(), 3 * d * d);
  ASSERT_EQ(columns.size(), 4 * d * d);
  WeightReader reader(checkpoint);
  const auto parameter = [&](const std::string& name) {
    const auto& all = checkpoint.manifest().parameters;
    const auto found = std::ranges::find(all, name, &CheckpointParameter::name);
    std::vector<float> values(element_count(*found));
    value_or_throw(
        reader.read(static_cast<std::uint32_t>(found - all.begin()), 0, std::span(values)));
    return values;
  };
  const auto encoder_k = parameter("encoder.1.k"), decoder_k = parameter("decoder.1.k"),
             decoder_v = parameter("decoder.1.v");
  for (std::uint64_t row = 0; row < d; ++row) {
    for (std::uint64_t column = 0; column < d; ++column) {
      ASSERT_EQ(rows[(d + row) * d + column], encoder_k[row * d + column]);
      ASSERT_EQ(columns[row * 4 * d + d + column], decoder_k[column * d + row]);
      ASSERT_EQ(columns[row * 4 * d + 2 * d + column], decoder_v[row * d + column]);
    }
  }
}

TEST_F(ToyFamilyTest, ImportedWeightsComputeTheSame) {
  saves_ = true;
  train(config(OffloadDevice::kCpu, 1), 1);
  auto checkpoint = value_or_throw(Checkpoint::open(saved()));
  ASSERT_TRUE(export_weights(checkpoint, out_ / "model", {.layout = &toy_family()}));
  std::vector<at::Tensor> losses;
  for (const bool imported : {false, true}) {
    on_ranks(config(OffloadDevice::kNvme, 1), 1, [&](Side& side, std::uint32_t) {
      if (imported) {
        auto weights = value_or_throw(HuggingFaceWeights::open(out_ / "model", *toy_model({})));
        set_initial_weights(side.engine->quiet_states(),
                            [&](const std::string& name, std::uint64_t first, std::span<float> to) {
                              return weights.read(name, first, to);
                            });
      } else {
        load_checkpoint(side.engine->quiet_states(), checkpoint);
      }
      zero::Pass pass = side.engine->inference_pass();
      const at::NoGradGuard no_graph;
      losses.push_back(side.units->token_losses(pass, batch_of(9)));
      // The logits of the last position are those that its loss comes from.
      Batch batch = batch_of(9);
      const at::Tensor logits = side.units->logits(pass, batch, nullptr);
      const at::Tensor last = batch.targets.select(1, kTarget - 1);
      const at::Tensor loss = at::cross_entropy_loss(logits, last, {}, at::Reduction::None);
      const at::Tensor weighted = loss * batch.weights.select(1, kTarget - 1);
      EXPECT_TRUE(at::allclose(weighted, losses.back().select(1, kTarget - 1), 1e-5, 1e-6));
    });
  }
  EXPECT_TRUE(losses[0].equal(losses[1]));
}

TEST_F(ToyFamilyTest, TheEstimateIsWhatTrainingHoldsAndMoves) {
  source_ = kTarget;  // an estimate knows one length
  for (const std::uint32_t world : {1u, 2u}) {
    for (const OffloadDevice device :
         {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
      Config config = this->config(device, world);
      // Not on NVMe: where a unit has several inputs, some are read ahead more than once.
      config.activations.device = OffloadDevice::kCpu;
      const Estimate expected = estimate({.model = toy_model({})->shape(),
                                          .config = config,
                                          .world_size = world,
                                          .context = kTarget});
      Trained trained;
      on_ranks(config, world, [&](Side& side, std::uint32_t rank) {
        for (int i = 0; i < 2; ++i) step(side, rank, world, &trained);
        if (rank != 0) return;
        const ModelStates& states = side.engine->states();
        EXPECT_EQ(expected.parameters, side.engine->parameter_count());
        std::uint64_t elements = 0;
        for (const auto& unit : states.units()) {
          elements += unit.partition.full_elements() / world;
        }
        EXPECT_EQ(expected.rank_elements, elements);
        EXPECT_EQ(expected.rows[0].bytes.nvme, states.tiers().weights().storage_bytes());
        EXPECT_EQ(expected.rows[1].bytes.nvme, states.tiers().optimizer().storage_bytes());
        if (device == OffloadDevice::kCpu) {
          EXPECT_EQ(expected.rows[0].bytes.pinned, states.tiers().weights().memory_bytes());
          EXPECT_EQ(expected.rows[1].bytes.pinned, states.tiers().optimizer().memory_bytes());
        }
        const auto row = std::ranges::find(expected.rows, "weights in use", &MemoryRow::what);
        EXPECT_LE(side.engine->fetcher().peak_resident_bytes(), row->bytes.ram);
      });
      const StepReport& report = trained.reports.back();
      EXPECT_EQ(expected.traffic.read(), static_cast<double>(report.nvme_read_bytes))
          << to_string(device) << ", " << world;
      EXPECT_EQ(expected.traffic.written(), static_cast<double>(report.nvme_written_bytes))
          << to_string(device) << ", " << world;
      EXPECT_EQ(report.nvme_read_bytes > 0, device == OffloadDevice::kNvme);
    }
  }
}

TEST_F(ToyFamilyTest, ItIsFoundByNameAndByItsFile) {
  const auto named = load_model_config("toy-small");
  ASSERT_TRUE(named) << named.error().message();
  const auto unknown = load_model_config("toy-smal");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message(), HasSubstr("did you mean 'toy-small'?"));
}

}  // namespace
}  // namespace spillway::trainer::testing
