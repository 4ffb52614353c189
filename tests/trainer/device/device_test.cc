#include "trainer/device/device.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/device.h>
#include <spillway/trainer/failure.h>
#include "trainer/states/model_states.h"

#include <memory>
#include <string>

#include "tests/support/scratch.h"
#include "tests/trainer/support/fake_device.h"
#include "tests/trainer/support/tiny_gpt.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string error_of(const char* name) {
  const auto checked = check_device_name(name);
  return checked ? "" : checked.error().message();
}

TEST(DeviceName, SaysWhatIsWrongAndTheNearestRightOne) {
  for (const char* name : {"cpu", "cuda", "cuda:0", "cuda:17"}) EXPECT_EQ(error_of(name), "");
  EXPECT_THAT(error_of("cdua"), HasSubstr("did you mean cuda?"));
  EXPECT_THAT(error_of("cdua:1"), HasSubstr("did you mean cuda?"));
  EXPECT_THAT(error_of("CPU"), HasSubstr("cpu, cuda or cuda:N"));
  EXPECT_THAT(error_of("tpu-v5-lite"), Not(HasSubstr("did you mean")));
  EXPECT_THAT(error_of(""), HasSubstr("'' is no device"));
  EXPECT_THAT(error_of("cpu:1"), HasSubstr("there is one cpu"));
  for (const char* name : {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:128", "cuda:999999"}) {
    EXPECT_THAT(error_of(name), HasSubstr("cuda:0 is the first")) << name;
  }
}

TEST(DeviceName, WithoutANumberMeansTheOneOfThisRank) {
  EXPECT_EQ(*open_device("cpu", 3), at::Device(at::kCPU));
  const FakeDevice fake(at::kPrivateUse1);
  const DeviceRegistration registered(fake);
  EXPECT_EQ(*open_device("fake", 1), at::Device(at::kPrivateUse1, 1));
  EXPECT_EQ(fake.current_device(), 1);
  EXPECT_EQ(*open_device("fake:0", 1), at::Device(at::kPrivateUse1, 0));
  EXPECT_EQ(fake.current_device(), 0);
  const auto third = open_device("fake", 2);
  ASSERT_FALSE(third);
  EXPECT_THAT(third.error().message(), HasSubstr("more ranks than devices"));
  EXPECT_THAT(open_device("fake:7", 0).error().message(), HasSubstr("this machine has 2"));
  EXPECT_THAT(error_of("fkae"), HasSubstr("did you mean fake?"));
}

TEST(DeviceName, OfAKindThatIsNotHereIsAnError) {
  if (const auto cuda = open_device("cuda", 0); !cuda) {
    EXPECT_THAT(cuda.error().message(), HasSubstr("use --device cpu"));
  }
}

TEST(Cpu, HasNoMemoryOfItsOwnToCap) {
  const DeviceKind& cpu = kind_of(at::kCPU);
  EXPECT_STREQ(cpu.name(), "cpu");
  EXPECT_FALSE(cpu.has_memory_of_its_own());
  EXPECT_THROW(cpu.cap_memory(at::kCPU, 1), Failure);
  const at::Tensor from = at::arange(10), to = at::zeros({10}, at::kFloat);
  cpu.copy(to, from);
  EXPECT_TRUE(at::equal(to, from.to(at::kFloat)));
  EXPECT_TRUE(cpu.record(cpu.current_stream(at::kCPU))->done());
}

// Training on the fake device.
class FakeTraining : public ::testing::Test {
 protected:
  Config config(OffloadDevice param, OffloadDevice optimizer) const {
    Config config = tiny_training(scratch_.path());
    config.offload_param.device = param;
    config.offload_optimizer.device = optimizer;
    return config;
  }
  Trace run(const Config& config) { return train(config, gpt_, *ranks_, kSteps); }
  static GptConfig untied() {
    GptConfig gpt = tiny_gpt();
    gpt.tie_word_embeddings = false;
    gpt.resid_pdrop = 0.1;
    return gpt;
  }

  static constexpr int kSteps = 4;
  const GptConfig gpt_ = untied();
  Scratch scratch_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
  FakeDevice fake_;
};

TEST_F(FakeTraining, KeepsStatesInItsMemoryAndUpdatesThemThere) {
  const Config none = config(OffloadDevice::kNone, OffloadDevice::kNone);
  const Trace expected = run(none);
  const DeviceRegistration registered(fake_);
  EXPECT_EQ(run(none), expected);
  ModelSpec model;
  add_gpt(model, gpt_);
  std::uint64_t parameters = 0;
  {
    const ZeroEngine engine(none, model, *ranks_, at::kCPU);
    parameters = engine.states().parameter_count();
    // bf16 weights, and lo and two moments in fp32.
    EXPECT_GE(fake_.memory_stats(at::kCPU).used, parameters * 12);
  }
  EXPECT_GE(fake_.updated_elements(), kSteps * parameters);
  EXPECT_GT(fake_.dropped_out_elements(), 0u);
  EXPECT_EQ(fake_.memory_stats(at::kCPU).used, 0u) << "all of it was given back";
}

TEST_F(FakeTraining, CopiesWhatIsOffloaded) {
  for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    SCOPED_TRACE(to_string(device));
    const Config offloaded = config(device, device);
    const Trace expected = run(offloaded);
    EXPECT_EQ(fake_.copies(), 0u);
    FakeDevice fake;
    const DeviceRegistration registered(fake);
    EXPECT_EQ(run(offloaded), expected);
    EXPECT_GT(fake.copies(), 0u) << "weights come from host memory";
    EXPECT_EQ(fake.updated_elements(), 0u) << "the host updates what it has";
  }
}

TEST_F(FakeTraining, ObeysTheCapOfItsMemory) {
  const DeviceRegistration registered(fake_);
  fake_.cap_memory(at::kCPU, 100'000);
  EXPECT_THROW(run(config(OffloadDevice::kNone, OffloadDevice::kNone)), c10::OutOfMemoryError);
  EXPECT_EQ(fake_.memory_stats(at::kCPU).used, 0u);
  EXPECT_EQ(fake_.updated_elements(), 0u);
}

}  // namespace
}  // namespace spillway::trainer::testing
