#include <ATen/Functions.h>
#include <c10/util/Exception.h>
#include <spillway/trainer/unit.h>
#include <torch/csrc/autograd/custom_function.h>
#include "trainer/device/device.h"
#include "trainer/kernels/dropout.h"

namespace spillway::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The mask applied to a contiguous tensor of fp32 or bf16.
at::Tensor masked(const at::Tensor& x, const DropoutMask& mask, std::uint64_t first_sample) {
  at::Tensor result = at::empty_like(x);
  if (x.numel() == 0) return result;
  const auto samples = static_cast<std::uint64_t>(x.size(0));
  const DeviceKind& device = kind_of(x.device());
  device.launch_dropout(mask,
                        {.dtype = x.scalar_type() == at::kBFloat16 ? Dtype::kBf16 : Dtype::kFp32,
                         .first_sample = first_sample,
                         .samples = samples,
                         .elements = static_cast<std::uint64_t>(x.numel()) / samples,
                         .from = x.const_data_ptr(),
                         .to = result.mutable_data_ptr()},
                        device.current_stream(x.device()));
  return result;
}

// Keeps no mask for backward: it is computed again from the numbers that name it.
struct Dropout : torch::autograd::Function<Dropout> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const DropoutMask& mask,
                            std::uint64_t first_sample) {
    auto& saved = context->saved_data;
    saved["key0"] = static_cast<std::int64_t>(mask.key.words[0]);
    saved["key1"] = static_cast<std::int64_t>(mask.key.words[1]);
    saved["dropped_words"] = static_cast<std::int64_t>(mask.dropped_words);
    saved["scale"] = static_cast<double>(mask.scale);
    saved["first_sample"] = static_cast<std::int64_t>(first_sample);
    return masked(x.contiguous(), mask, first_sample);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& saved = context->saved_data;
    const auto word = [&](const char* name) {
      return static_cast<std::uint32_t>(saved.at(name).toInt());
    };
    const DropoutMask mask{
        .key = {{word("key0"), word("key1")}},
        .dropped_words = static_cast<std::uint64_t>(saved.at("dropped_words").toInt()),
        .scale = static_cast<float>(saved.at("scale").toDouble())};
    const auto first_sample = static_cast<std::uint64_t>(saved.at("first_sample").toInt());
    return {masked(gradients[0].contiguous(), mask, first_sample), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor ForwardContext::dropout(const at::Tensor& x, double p, std::uint32_t site) const {
  TORCH_CHECK_VALUE(p >= 0 && p <= 1, "dropout: p = ", p, " is no probability: 0 <= p <= 1");
  if (!training || p == 0.0) return x;
  TORCH_CHECK_VALUE(x.is_floating_point() && x.dim() > 0,
                    "dropout: wants a tensor of samples in a floating point type, not ",
                    x.toString(), " of ", x.dim(), " dimensions");
  const DropoutMask mask =
      DropoutMask::create({.seed = seed, .step = step, .unit = unit, .site = site}, p);
  if (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) {
    return Dropout::apply(x, mask, first_sample);
  }
  // Other types take part by a mask of their own.
  const at::Tensor ones = at::ones(x.sizes(), x.options().dtype(at::kFloat).requires_grad(false));
  return x * masked(ones, mask, first_sample).to(x.scalar_type());
}

}  // namespace spillway::trainer
