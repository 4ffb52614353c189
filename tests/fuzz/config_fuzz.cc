// The configuration's reader. Input: a JSON file, then overrides, parted by zero bytes.
// Whatever stands there, the answer is an error with words in it, or a Config that is sound.
#include <spillway/aio/check.h>
#include <spillway/trainer/config.h>

#include <cmath>
#include <fstream>

#include "support/scratch.h"

namespace spillway::trainer {
namespace {

void expect_sound(const ConfigResult& result, const ConfigInput& input) {
  const Config& config = result.config;
  SPILLWAY_CHECK(aio::validate(config.aio).has_value(), "the engine would refuse the aio block");
  SPILLWAY_CHECK(
      config.train_batch_size ==
          config.micro_batch_size * config.gradient_accumulation_steps * input.world_size,
      "the batch is not micro-batch x accumulation x ranks");
  SPILLWAY_CHECK(config.train_batch_size > 0, "a batch of nothing");
  SPILLWAY_CHECK(config.sub_group_size > 0, "tiles of nothing");
  for (const OffloadConfig* offload : {&config.offload_param, &config.offload_optimizer}) {
    SPILLWAY_CHECK(offload->device != OffloadDevice::kNvme || !offload->nvme_path.empty(),
                   "NVMe without a path");
  }
  for (const KeyReport& report : result.keys) {
    SPILLWAY_CHECK(!report.key.empty(), "a report on no key");
  }
  for (std::uint64_t step : {1ull, 2ull, 1000ull, ~0ull}) {
    SPILLWAY_CHECK(std::isfinite(learning_rate_at(config, step)), "a learning rate without end");
  }
}

}  // namespace
}  // namespace spillway::trainer

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::trainer;
  static const spillway::Scratch scratch;
  std::string text(reinterpret_cast<const char*>(data), size);
  std::string json = text.substr(0, text.find('\0'));
  ConfigInput input{.file = scratch / "config.json",
                    .world_size = 1 + static_cast<std::uint32_t>(size % 3),
                    .total_steps = size % 2 * 500,
                    .hidden_size = static_cast<std::uint32_t>(size % 5) * 64};
  for (std::size_t at = json.size(); at < text.size();) {
    std::size_t end = std::min(text.find('\0', at + 1), text.size());
    input.overrides.push_back(text.substr(at + 1, end - at - 1));
    at = end;
  }
  std::ofstream(input.file, std::ios::binary) << json;
  auto result = load_config(input);
  if (result) {
    expect_sound(*result, input);
  } else {
    SPILLWAY_CHECK(result.error().kind == spillway::ErrorKind::kInvalid, "another kind of error");
    SPILLWAY_CHECK(!result.error().detail.empty(), "an error without a reason");
  }
  return 0;
}
