#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <spillway/trainer/unit.h>
#include "trainer/base/seed.h"

namespace spillway::trainer {

at::Tensor ForwardContext::dropout(const at::Tensor& x, double p, std::uint32_t site) const {
  if (!training || p == 0.0) return x;
  at::Tensor mask = at::empty(x.sizes(), x.options().requires_grad(false));
  at::Generator generator = at::globalContext().defaultGenerator(x.device()).clone();
  const double scale = 1.0 / (1.0 - p);
  for (std::int64_t i = 0; i < x.size(0); ++i) {
    const std::uint64_t stream = std::uint64_t{unit} << 32 | site;
    generator.set_current_seed(derive_seed(seed, step, stream, first_sample + i));
    mask.select(0, i).bernoulli_(1.0 - p, generator).mul_(scale);
  }
  return x * mask;
}

}  // namespace spillway::trainer
