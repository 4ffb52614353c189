#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

std::string text(std::uint64_t number) { return std::to_string(number); }

}  // namespace

// train = micro x accumulation x world. From one or two of the three the others follow as in
// DeepSpeed: train alone means no accumulation; with neither train nor micro, micro is 1.
std::string resolve_batch_sizes(ConfigDraft& draft) {
  const std::uint64_t world = draft.input->world_size;
  Config& config = draft.config;
  const auto& train = draft.train_batch_size;
  const auto& micro = draft.micro_batch_size;
  const auto& accumulation = draft.accumulation_steps;
  if (!train || (micro && accumulation)) {
    config.micro_batch_size = micro.value_or(1);
    config.gradient_accumulation_steps = accumulation.value_or(1);
    config.train_batch_size = config.micro_batch_size * config.gradient_accumulation_steps * world;
    if (!train || *train == config.train_batch_size) return {};
    return "train_batch_size " + text(*train) + " is not train_micro_batch_size_per_gpu " +
           text(*micro) + " x gradient_accumulation_steps " + text(*accumulation) +
           " x world size " + text(world) + " = " + text(config.train_batch_size);
  }
  config.train_batch_size = *train;
  const std::uint64_t known = (micro ? *micro : accumulation.value_or(1)) * world;
  const std::uint64_t derived = *train / known;
  config.micro_batch_size = micro ? *micro : derived;
  config.gradient_accumulation_steps = micro ? derived : accumulation.value_or(1);
  if (*train % known == 0) return {};
  const char* divisor = micro ? "train_micro_batch_size_per_gpu" : "gradient_accumulation_steps";
  return "train_batch_size " + text(*train) + " does not divide by " + divisor + " " +
         text(known / world) + " x world size " + text(world) + " = " + text(known) +
         " (remainder " + text(*train % known) + ")";
}

}  // namespace spillway::trainer
