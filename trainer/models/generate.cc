#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/generate.h>
#include "trainer/base/seed.h"

#include <algorithm>

namespace spillway::trainer {

std::vector<std::int64_t> generate(zero::Pass& pass, const ModelUnits& units, std::uint32_t context,
                                   std::vector<std::int64_t> prompt,
                                   const GenerateOptions& options) {
  SPILLWAY_CHECK(!prompt.empty(), "a prompt has at least one token");
  const at::NoGradGuard no_graph;
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(derive_seed(options.seed, 1));
  for (std::uint32_t i = 0; i < options.tokens; ++i) {
    const std::size_t length = std::min<std::size_t>(prompt.size(), context);
    const at::Tensor tokens =
        at::from_blob(prompt.data() + (prompt.size() - length),
                      {1, static_cast<std::int64_t>(length)}, at::TensorOptions().dtype(at::kLong))
            .to(pass.device(), at::kLong, false, /*copy=*/true);
    const at::Tensor logits = units.logits(pass, {.inputs = tokens}, nullptr).cpu()[0];
    const at::Tensor next =
        options.temperature > 0
            ? at::multinomial(at::softmax(logits / options.temperature, 0), 1, false, generator)
            : logits.argmax();
    prompt.push_back(next.item<std::int64_t>());
  }
  return prompt;
}

}  // namespace spillway::trainer
