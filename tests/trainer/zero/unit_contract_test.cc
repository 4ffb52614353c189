// What unit.h promises of a run, and what it refuses by name.
#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero_engine.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <functional>
#include <memory>

#include "tests/support/scratch.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Tensors = std::vector<at::Tensor>;

constexpr std::int64_t kWidth = 8;

struct Seen {
  std::vector<std::int64_t> samples;  // of each forward
  std::vector<std::uint32_t> methods;
  bool inference = false;
};

struct Linear : Unit {
  explicit Linear(Seen* seen) : seen_(seen) {}
  torch::nn::Linear linear = register_module("linear", torch::nn::Linear(kWidth, kWidth));
  at::Tensor forward(const Tensors& inputs, const ForwardContext& context) override {
    if (seen_ != nullptr) {
      seen_->samples.push_back(inputs[0].size(0));
      seen_->methods.push_back(context.method);
      seen_->inference = context.inference;
    }
    if (context.method == 2) return inputs[0] + context.shared.at(0);
    if (context.method == 3) return inputs[0].mul_(2);
    return context.method == 1 ? linear(inputs[0]).sum(1) : linear(inputs[0]);
  }

 private:
  Seen* seen_;
};

struct Declared final : Linear {  // says what its output is like
  explicit Declared(Seen* seen) : Linear(seen) {}
  at::Tensor empty_output(const Tensors& inputs, const ForwardContext&) override {
    return at::empty({0, kWidth}, inputs[0].options());
  }
};

class UnitContractTest : public ::testing::Test {
 protected:
  static Config config() {
    Config config;
    config.train_batch_size = config.micro_batch_size = 4;
    return config;
  }
  std::unique_ptr<ZeroEngine> engine(const ModelSpec& model, const Config& config) {
    return std::make_unique<ZeroEngine>(config, model, *ranks_, at::kCPU);
  }
  std::unique_ptr<ZeroEngine> engine(const ModelSpec& model) { return engine(model, config()); }

  static UnitSpec spec(const std::string& name, std::function<std::shared_ptr<Unit>()> make,
                       std::vector<Borrow> borrows = {}) {
    return {name, std::move(make), std::move(borrows)};
  }
  std::string refusal(const std::function<void()>& work) {
    try {
      work();
    } catch (const Failure& failure) {
      return failure.what();
    }
    return "accepted";
  }

  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
  Seen seen_;
};

TEST_F(UnitContractTest, MethodAndChunkReachForwardAndItsRecomputation) {
  for (const bool checkpointing : {true, false}) {
    Config with = config();
    with.activations.checkpointing = checkpointing;
    ModelSpec model;
    model.add(spec("linear", [&] { return std::make_shared<Linear>(&seen_); }));
    const auto trained = engine(model, with);
    seen_ = {};
    const at::Tensor x = at::ones({6, kWidth});
    trained->step([&](zero::Pass& pass) {
      const at::Tensor sums = zero::run(pass, 0, {x}, {.method = 1, .chunk = 5});
      EXPECT_EQ(sums.sizes(), at::IntArrayRef({6}));
      return sums.mean();
    });
    const std::vector<std::int64_t> once{5, 1}, twice{5, 1, 5, 1};
    EXPECT_EQ(seen_.samples, checkpointing ? twice : once);
    for (const std::uint32_t method : seen_.methods) EXPECT_EQ(method, 1u);
    EXPECT_FALSE(seen_.inference);
  }
}

TEST_F(UnitContractTest, SharedConstantsAreWholeInEveryChunk) {
  ModelSpec model;
  model.add(spec("linear", [&] { return std::make_shared<Linear>(&seen_); }));
  const auto trained = engine(model);
  const at::Tensor x = at::zeros({6, kWidth}), constant = at::arange(kWidth).to(at::kFloat);
  const at::Tensor other = constant * 3;
  trained->step([&](zero::Pass& pass) {
    pass.set_shared({constant});
    const at::Tensor y = zero::run(pass, 0, {zero::run(pass, 0, {x})}, {.method = 2, .chunk = 4});
    pass.set_shared({other});  // the first run keeps its own
    const at::Tensor z = zero::run(pass, 0, {x}, {.method = 2});
    EXPECT_TRUE(z.equal(other.expand({6, kWidth})));
    return y.mean() + 0 * z.sum();
  });
  zero::Pass pass = trained->inference_pass();
  pass.set_shared({constant});
  EXPECT_TRUE(
      zero::run(pass, 0, {x}, {.method = 2, .chunk = 1}).equal(constant.expand({6, kWidth})));
}

TEST_F(UnitContractTest, InAnInferencePassInputsMayBeChangedInPlace) {
  ModelSpec model;
  model.add(spec("linear", [&] { return std::make_shared<Linear>(&seen_); }));
  const auto trained = engine(model);
  zero::Pass pass = trained->inference_pass();
  const at::Tensor cache = at::ones({6, kWidth});
  zero::run(pass, 0, {cache}, {.method = 3, .chunk = 4});
  EXPECT_TRUE(seen_.inference);
  EXPECT_TRUE(cache.equal(at::full({6, kWidth}, 2.0)));
}

TEST_F(UnitContractTest, OfNoSamplesTheUnitIsFetchedAndForwardIsNotCalled) {
  const Scratch scratch;
  for (const bool checkpointing : {true, false}) {
    Config with = config();
    with.activations.checkpointing = checkpointing;
    with.update_order = UpdateOrder::kAfterBackward;
    with.offload_param.device = OffloadDevice::kNvme;
    with.offload_param.max_in_cpu_elements = 0;
    with.offload_param.nvme_path = scratch.path();
    with.optimizer.weight_decay = 0;
    ModelSpec model;
    model.add(spec("first", [&] { return std::make_shared<Declared>(&seen_); }));
    model.add(spec("second", [&] { return std::make_shared<Declared>(&seen_); }));
    const auto trained = engine(model, with);
    const auto step = [&](std::int64_t samples) {
      return trained->step([&](zero::Pass& pass) {
        const at::Tensor x =
            zero::run(pass, 1, {zero::run(pass, 0, {at::ones({samples, kWidth})})});
        EXPECT_EQ(x.sizes(), at::IntArrayRef({samples, kWidth}));
        return x.sum();
      });
    };
    step(2);  // what is used next is known, and read ahead, from the second step on
    seen_ = {};
    const StepReport none = step(0);
    EXPECT_TRUE(seen_.samples.empty());
    EXPECT_EQ(none.loss, 0);
    EXPECT_EQ(none.grad_norm, 0);
    const StepReport some = step(2);
    EXPECT_EQ(none.nvme_read_bytes, some.nvme_read_bytes) << "other ranks wait for its fetches";
    EXPECT_EQ(none.nvme_written_bytes, some.nvme_written_bytes);
    EXPECT_GT(some.grad_norm, 0);
  }
}

TEST_F(UnitContractTest, TheShapeOfNoSamplesIsRememberedOrAskedFor) {
  ModelSpec model;
  model.add(spec("plain", [&] { return std::make_shared<Linear>(&seen_); }));
  const auto trained = engine(model);
  const auto run = [&](const at::Tensor& x, std::uint32_t method) {
    zero::Pass pass = trained->inference_pass();
    return zero::run(pass, 0, {x}, {.method = method});
  };
  EXPECT_THAT(refusal([&] {
                run(at::ones({0, kWidth}), 0);
              }),
              AllOf(HasSubstr("run unit plain"), HasSubstr("override Unit::empty_output")));
  run(at::ones({3, kWidth}), 0);
  run(at::ones({3, kWidth}), 1);
  seen_ = {};
  EXPECT_EQ(run(at::ones({0, kWidth}), 0).sizes(), at::IntArrayRef({0, kWidth}));
  EXPECT_EQ(run(at::ones({0, kWidth}), 1).sizes(), at::IntArrayRef({0}));
  EXPECT_TRUE(seen_.samples.empty());
  EXPECT_THAT(refusal([&] { run(at::ones({0, 2, kWidth}), 0); }), HasSubstr("empty_output"));
}

struct Statistics final : Unit {  // batch statistics
  torch::nn::BatchNorm1d norm = register_module("norm", torch::nn::BatchNorm1d(kWidth));
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    return norm(inputs[0]);
  }
};

struct Quiet final : Unit {  // writes past torch's counting of changes
  at::Tensor seen = register_buffer("seen", at::zeros({1}));
  torch::nn::Linear linear = register_module("linear", torch::nn::Linear(kWidth, kWidth));
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    *seen.data_ptr<float>() += 1;
    return linear(inputs[0]);
  }
};

TEST_F(UnitContractTest, AUnitThatChangesItsBuffersIsRefusedByName) {
  const auto train = [&](std::function<std::shared_ptr<Unit>()> make) {
    ModelSpec model;
    model.add(spec("layer", std::move(make)));
    const auto trained = engine(model);
    trained->step([&](zero::Pass& pass) {
      return zero::run(pass, 0, {at::randn({4, kWidth})}).square().mean();
    });
  };
  EXPECT_THAT(refusal([&] { train([] { return std::make_shared<Statistics>(); }); }),
              AllOf(HasSubstr("run unit layer"), HasSubstr("changes the buffer 'norm.")));
  EXPECT_THAT(refusal([&] { train([] { return std::make_shared<Quiet>(); }); }),
              HasSubstr("changes the buffer 'seen'"));
}

struct Holder final : Unit {  // registers a parameter that was made elsewhere
  explicit Holder(const at::Tensor& shared) : weight(register_parameter("weight", shared)) {}
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    return at::linear(inputs[0], weight);
  }
  at::Tensor weight;
};

struct Smuggler final : Unit {  // uses a parameter that it does not register
  explicit Smuggler(at::Tensor shared) : hidden(std::move(shared)) {}
  torch::nn::Linear linear = register_module("linear", torch::nn::Linear(kWidth, kWidth));
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    return linear(inputs[0]) + at::linear(inputs[0], hidden);
  }
  at::Tensor hidden;
};

TEST_F(UnitContractTest, ASharedParameterThatIsNotDeclaredIsRefused) {
  const at::Tensor shared = at::randn({kWidth, kWidth}).requires_grad_(true);
  ModelSpec model;
  model.add(spec("one", [&] { return std::make_shared<Holder>(shared); }));
  model.add(spec("two", [&] { return std::make_shared<Holder>(shared); }));
  EXPECT_THAT(refusal([&] { engine(model); }),
              AllOf(HasSubstr("parameter 'weight' of unit 'two' is 'weight' of unit 'one'"),
                    HasSubstr("borrow")));
  for (const bool checkpointing : {true, false}) {
    Config with = config();
    with.activations.checkpointing = checkpointing;
    ModelSpec other;
    other.add(spec("two", [&] { return std::make_shared<Smuggler>(shared); }));
    const auto trained = engine(other, with);
    EXPECT_THAT(refusal([&] {
                  trained->step([&](zero::Pass& pass) {
                    return zero::run(pass, 0, {at::ones({2, kWidth})}).mean();
                  });
                }),
                AllOf(HasSubstr("run unit two"), HasSubstr("8 x 8"), HasSubstr("borrows")));
  }
}

TEST_F(UnitContractTest, ABorrowThatDoesNotExistIsRefusedByName) {
  const auto make = [&] { return std::make_shared<Linear>(nullptr); };
  const auto borrowing = [&](std::vector<Borrow> borrows) {
    ModelSpec model;
    model.add(spec("owner", make));
    model.add(spec("user", make, std::move(borrows)));
    return refusal([&] { engine(model); });
  };
  EXPECT_THAT(borrowing({{0, "linear.wieght"}}),
              AllOf(HasSubstr("unit 'user' borrows 'linear.wieght' of unit 'owner'"),
                    HasSubstr("did you mean 'linear.weight'?")));
  EXPECT_THAT(borrowing({{7, "linear.weight"}}), HasSubstr("unit number 7, which is not in"));
  EXPECT_THAT(borrowing({{1, "linear.weight"}}), HasSubstr("itself"));
  EXPECT_THAT(borrowing({{0, "linear.bias"}, {0, "linear.bias"}}), HasSubstr("twice"));
}

}  // namespace
}  // namespace spillway::trainer::testing
