// ForwardContext::dropout: what its mask depends on, and what its gradient is.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <spillway/trainer/unit.h>
#include "trainer/kernels/dropout.h"

namespace spillway::trainer {
namespace {

ForwardContext context(std::uint64_t first_sample = 0) {
  ForwardContext context;
  context.training = true;
  context.seed = 5;
  context.step = 9;
  context.unit = 3;
  context.first_sample = first_sample;
  return context;
}

TEST(UnitDropout, IsThatOfTheKernelsForEachSample) {
  const at::Tensor x = at::rand({3, 7, 11});
  const at::Tensor y = context(100).dropout(x, 0.4, 2);
  const DropoutMask mask = DropoutMask::create({.seed = 5, .step = 9, .unit = 3, .site = 2}, 0.4);
  for (std::int64_t sample = 0; sample < 3; ++sample) {
    at::Tensor expected = at::empty({7, 11});
    dropout_reference(mask, 100 + static_cast<std::uint64_t>(sample), 0, 77,
                      x[sample].const_data_ptr<float>(), expected.data_ptr<float>());
    EXPECT_TRUE(at::equal(y[sample], expected));
  }
}

TEST(UnitDropout, DoesNotDependOnChunksOrThreads) {
  const at::Tensor x = at::rand({8, 50'000});
  const at::Tensor whole = context().dropout(x, 0.1, 0);
  for (const std::int64_t chunk : {1, 3}) {
    for (std::int64_t first = 0; first < 8; first += chunk) {
      const std::int64_t count = std::min<std::int64_t>(chunk, 8 - first);
      const at::Tensor part =
          context(static_cast<std::uint64_t>(first)).dropout(x.narrow(0, first, count), 0.1, 0);
      EXPECT_TRUE(at::equal(part, whole.narrow(0, first, count)));
    }
  }
  // An element's number counts in the tensor's shape, not in memory.
  const at::Tensor turned = x.t().contiguous().t();
  EXPECT_TRUE(at::equal(context().dropout(turned, 0.1, 0), whole));
}

TEST(UnitDropout, PassesGradientsThroughTheSameMask) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble, at::kHalf}) {
    const at::Tensor x = at::ones({4, 300}, at::TensorOptions(type)).requires_grad_();
    const at::Tensor y = context().dropout(x, 0.25, 1);
    EXPECT_EQ(y.scalar_type(), type);
    y.sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), y.detach())) << type;  // of ones: the mask times its scale
    EXPECT_GT((y == 0).sum().item<std::int64_t>(), 200);
  }
  // The same mask in every type.
  const auto zeros = [](at::ScalarType type) {
    return context().dropout(at::ones({4, 300}, at::TensorOptions(type)), 0.25, 1) == 0;
  };
  EXPECT_TRUE(at::equal(zeros(at::kBFloat16), zeros(at::kFloat)));
  EXPECT_TRUE(at::equal(zeros(at::kDouble), zeros(at::kFloat)));
}

TEST(UnitDropout, DefinesItsEdges) {
  const at::Tensor x = at::rand({2, 5});
  EXPECT_TRUE(context().dropout(x, 0.0, 0).is_same(x));
  ForwardContext evaluation = context();
  evaluation.training = false;
  EXPECT_TRUE(evaluation.dropout(x, 0.5, 0).is_same(x));
  const at::Tensor infinite = at::full({2, 5}, INFINITY);
  EXPECT_TRUE(at::equal(context().dropout(infinite, 1.0, 0), at::zeros({2, 5})));
  EXPECT_TRUE(at::equal(context().dropout(x, 1e-15, 0), x));
  EXPECT_EQ(context().dropout(at::empty({0, 5}), 0.5, 0).sizes(), at::IntArrayRef({0, 5}));
  EXPECT_EQ(context().dropout(at::empty({3, 0}), 0.5, 0).sizes(), at::IntArrayRef({3, 0}));
  EXPECT_THROW(context().dropout(x, -0.1, 0), c10::ValueError);
  EXPECT_THROW(context().dropout(x, 1.1, 0), c10::ValueError);
  EXPECT_THROW(context().dropout(at::ones({2}, at::kLong), 0.5, 0), c10::ValueError);
}

}  // namespace
}  // namespace spillway::trainer
