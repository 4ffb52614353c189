#include "trainer/run/batches.h"

#include <ATen/Functions.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <string>

namespace spillway::trainer {

TokenBatch make_batch(const TokenFile& file, const BatchShape& shape, at::Device device,
                      const FillSample& fill) {
  const std::int64_t context = shape.context;
  const auto samples = static_cast<std::int64_t>(shape.samples);
  TokenBatch batch{at::empty({samples, context}, at::kLong),
                   at::empty({samples, context}, at::kLong)};
  for (std::int64_t i = 0; i < samples; ++i) {
    const auto row = [&](at::Tensor& tensor) {
      return std::span<std::int64_t>(tensor.data_ptr<std::int64_t>() + i * context, context);
    };
    fill(static_cast<std::uint64_t>(i), row(batch.tokens), row(batch.targets));
  }
  const std::int64_t largest =
      std::max(batch.tokens.max().item<std::int64_t>(), batch.targets.max().item<std::int64_t>());
  if (largest >= shape.vocab_size) {
    throw Failure(make_error(ErrorKind::kInvalid, "read tokens", file.path(),
                             "token " + std::to_string(largest) +
                                 " is outside the model's vocabulary of " +
                                 std::to_string(shape.vocab_size))
                      .value());
  }
  batch.tokens = batch.tokens.to(device);
  batch.targets = batch.targets.to(device);
  return batch;
}

}  // namespace spillway::trainer
