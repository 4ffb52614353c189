// Trains a model of your own, which is no GPT, with its states on NVMe. Copy it and change units,
// data and loss:   train_your_own DIRECTORY [STEPS]
// The model: points on two spirals that wind into each other; which of the two is a point on?
#include <ATen/Functions.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero_engine.h>
#include <torch/nn/modules/linear.h>

#include <cstdio>
#include <cstdlib>

using namespace spillway::trainer;
namespace nn = torch::nn;
using Tensors = std::vector<at::Tensor>;

constexpr int kSamples = 256, kWidth = 512, kHidden = 1024;

// 1. Units: torch modules whose parameters are in memory together, and only while they are used.
struct Features final : Unit {  // random and frozen: no gradient, no optimizer states, no updates
  nn::Linear wave = register_module("wave", nn::Linear(2, kWidth));
  Features() {
    for (at::Tensor& p : parameters()) p.requires_grad_(false).normal_(0.0, 3.0);
  }
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    return wave(inputs[0].to(wave->weight.dtype())).cos();  // weights are bf16, points fp32
  }
};
struct Block final : Unit {
  nn::Linear in = register_module("in", nn::Linear(kWidth, kHidden));
  nn::Linear out = register_module("out", nn::Linear(kHidden, kWidth));
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    return inputs[0] + out(in(inputs[0]).relu());
  }
};
struct Classifier final : Unit {  // inputs: features, labels -> each sample's loss, fp32
  nn::Linear classes = register_module("classes", nn::Linear(kWidth, 2));
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    const at::Tensor logits = classes(inputs[0]).to(at::kFloat);
    return at::cross_entropy_loss(logits, inputs[1], {}, at::Reduction::None);
  }
};

void train(const std::string& directory, int steps) {
  // 2. The configuration: DeepSpeed's keys, here given one by one instead of in a JSON file.
  ConfigInput input;
  input.overrides = {"train_batch_size=256", "train_micro_batch_size_per_gpu=64",
                     "bf16.enabled=true", "zero_optimization.stage=3", "optimizer.type=AdamW"};
  for (const char* states : {"offload_param", "offload_optimizer"}) {
    const std::string key = std::string("zero_optimization.") + states;
    input.overrides.push_back(key + ".device=nvme");
    input.overrides.push_back(key + ".nvme_path=" + directory);
    // Nothing cached in RAM, so that every byte of a step can be seen; left out: what is free.
    input.overrides.push_back(key + ".max_in_cpu=0");
  }
  // And no tile updated twice, as one is that was updated ahead of a norm that then clips.
  input.overrides.push_back("zero_optimization.offload_optimizer.update_order=forward");
  const Config config = value_or_throw(load_config(input)).config;

  // 3. The model: how to make each unit. The engine makes one at a time and writes it to NVMe.
  ModelSpec model;
  const UnitId features = model.add({"features", [] { return std::make_shared<Features>(); }, {}});
  const UnitId block1 = model.add({"block1", [] { return std::make_shared<Block>(); }, {}});
  const UnitId block2 = model.add({"block2", [] { return std::make_shared<Block>(); }, {}});
  const UnitId head = model.add({"head", [] { return std::make_shared<Classifier>(); }, {}});
  const auto ranks = Communicator::from_environment(at::kCPU);
  ZeroEngine engine(config, model, *ranks, at::kCPU);
  std::printf("%llu parameters, %llu of them train\n",
              static_cast<unsigned long long>(engine.parameter_count()),
              static_cast<unsigned long long>(engine.trainable_parameter_count()));

  // 4. Steps: the loss of a batch, through zero::run wherever a unit is used. A step's last writes
  // may be counted with the next, so the bytes are counted from the start.
  unsigned long long read = 0, written = 0;
  const auto count = [&](const StepReport& report) {
    read += report.nvme_read_bytes;
    written += report.nvme_written_bytes;
  };
  for (int step = 1; step <= steps; ++step) {
    const at::Tensor labels = at::randint(2, {kSamples}, at::kLong);
    const at::Tensor radius = at::rand({kSamples}).sqrt();
    const at::Tensor angle = radius * 10 + labels * 3.14159265;
    const at::Tensor points = at::stack({radius * angle.cos(), radius * angle.sin()}, 1);
    const StepReport report = engine.step([&](zero::Pass& pass) {
      at::Tensor x = zero::run(pass, features, {points});
      for (const UnitId block : {block1, block2}) x = zero::run(pass, block, {x});
      return zero::run(pass, head, {x, labels}).sum() / kSamples;
    });
    count(report);
    if (step % 10 != 1 && step != steps) continue;
    std::printf("step %3d  loss %.4f  %.3f s  NVMe read %llu written %llu\n", step, report.loss,
                report.seconds, read, written);
  }
  count(engine.finish_update());
  std::printf("in all: NVMe read %llu written %llu\n", read, written);
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: train_your_own DIRECTORY [STEPS]\n");
    return 2;
  }
  try {
    train(argv[1], argc > 2 ? std::atoi(argv[2]) : 60);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_your_own: %s\n", error.what());
    return 1;
  }
}
