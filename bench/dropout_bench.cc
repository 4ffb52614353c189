// Dropout by its counter-based generator against what torch offers for the same promise: a mask for
// each sample drawn from a generator seeded for it, scaled and multiplied; and against bernoulli_
// alone, over all samples with one generator. In turns, so that they share the machine's minutes.
//
// dropout_bench [repetitions] [threads]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include "trainer/base/seed.h"
#include "trainer/kernels/dropout.h"
#include "trainer/kernels/update.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "machine_card.h"
#include "repetitions.h"

namespace {

using namespace spillway::trainer;

constexpr double kP = 0.1;
constexpr std::int64_t kTaskElements = 1 << 14;

at::Generator seeded(std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return generator;
}

at::Tensor by_sample(const at::Tensor& x) {
  at::Tensor mask = at::empty_like(x);
  at::Generator generator = seeded(1);
  for (std::int64_t i = 0; i < x.size(0); ++i) {
    generator.set_current_seed(derive_seed(1, 2, 3, static_cast<std::uint64_t>(i)));
    mask.select(0, i).bernoulli_(1 - kP, generator).mul_(1 / (1 - kP));
  }
  return x * mask;
}

at::Tensor bernoulli_alone(const at::Tensor& x) {
  at::Tensor mask = at::empty_like(x);
  return mask.bernoulli_(1 - kP, seeded(1));
}

at::Tensor counter_based(const at::Tensor& x) {
  at::Tensor result = at::empty_like(x);
  const bool half = x.scalar_type() == at::kBFloat16;
  const DropoutTensor tensor{.dtype = half ? Dtype::kBf16 : Dtype::kFp32,
                             .samples = static_cast<std::uint64_t>(x.size(0)),
                             .elements = static_cast<std::uint64_t>(x.numel() / x.size(0)),
                             .from = x.const_data_ptr(),
                             .to = result.mutable_data_ptr()};
  const DropoutMask mask = DropoutMask::create({.seed = 1, .step = 2, .unit = 3}, kP);
  at::parallel_for(0, x.numel(), kTaskElements, [&](std::int64_t begin, std::int64_t end) {
    dropout(mask, tensor, static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end));
  });
  return result;
}

// Prints the figures of one shape; returns whether the contenders' results are what they should be.
bool compare(at::IntArrayRef shape, at::ScalarType type, int repetitions) {
  const at::Tensor x = at::ones(shape, at::TensorOptions().dtype(type));
  at::Tensor results[3];
  std::vector<Contender> list{
      {"this dropout", 0, [&] { results[0] = counter_based(x); }},
      {"a seeded bernoulli_ a sample, times x", 0, [&] { results[1] = by_sample(x); }},
      {"one bernoulli_ alone, no product", 0, [&] { results[2] = bernoulli_alone(x); }}};
  measure(list, repetitions);
  const auto elements = static_cast<double>(x.numel());
  bool right = true;
  std::printf(
      "\n| %s, %lld samples of %lld elements | median ms | ns/element | its time over this "
      "dropout's |\n|---|---|---|---|\n",
      type == at::kFloat ? "fp32" : "bf16", static_cast<long long>(x.size(0)),
      static_cast<long long>(x.numel() / x.size(0)));
  for (std::size_t i = 0; i < list.size(); ++i) {
    const double time_ms = median(list[i].milliseconds);
    std::printf("| %s | %.2f | %.3f | %.2f |\n", list[i].name.c_str(), time_ms,
                time_ms * 1e6 / elements, ratio_to(list[i], list[0]));
    const double dropped = (results[i] == 0).sum().item<double>() / elements;
    right = right && std::abs(dropped - kP) < 5 * std::sqrt(kP * (1 - kP) / elements);
  }
  print_repetitions(list);
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 5;
  at::set_num_threads(argc > 2 ? std::atoi(argv[2]) : 1);
  std::printf("# Dropout on the CPU\n\n");
  print_machine_card();
  std::printf("- SIMD: %s\n- p = %.1f, %d threads, %d repetitions, contenders alternating\n",
              simd_target_name(), kP, at::get_num_threads(), repetitions);
  bool right = true;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    right = compare({8, 1024, 768}, type, repetitions) && right;  // a block's output
    right = compare({64, 128, 256}, type, repetitions) && right;  // many small samples
    right = compare({4096, 333}, type, repetitions) && right;     // smaller than it likes
  }
  std::printf("\nshare of zeros: %s\n", right ? "right" : "WRONG");
  return right ? 0 : 1;
}
