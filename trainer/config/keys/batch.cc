// Batch sizes, and what belongs to the run as a whole.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

std::string text(std::uint64_t number) { return std::to_string(number); }

// Multiplies; returns false if the product does not fit.
bool multiply(std::uint64_t& product, std::uint64_t factor) {
  return !__builtin_mul_overflow(product, factor, &product);
}

}  // namespace

std::vector<KeyRule> batch_keys() {
  const Field bf16{
      .type = ValueType::kBool,
      .write = [](Config& c,
                  const KeyValue& v) { c.dtype = v.boolean ? Dtype::kBf16 : Dtype::kFp32; },
      .read = [](const Config& c) { return c.dtype == Dtype::kBf16; },
  };
  return {
      {.path = "train_batch_size",
       .standard = "1",
       .note = "= train_micro_batch_size_per_gpu x gradient_accumulation_steps x ranks",
       .may_be_auto = true,
       .minimum = 1,
       .into = member(&Config::train_batch_size)},
      {.path = "train_micro_batch_size_per_gpu",
       .standard = "1",
       .may_be_auto = true,
       .minimum = 1,
       .into = member(&Config::micro_batch_size)},
      {.path = "gradient_accumulation_steps",
       .standard = "1",
       .may_be_auto = true,
       .minimum = 1,
       .into = member(&Config::gradient_accumulation_steps)},
      {.path = "seed",
       .note = "source of all randomness; not a DeepSpeed key",
       .into = member(&Config::seed)},
      {.path = "steps_per_print",
       .may_be_null = true,
       .minimum = 1,
       .into = member(&Config::steps_per_print)},
      {.path = "gradient_clipping",
       .note = "global norm; 0 = off",
       .may_be_auto = true,
       .into = member(&Config::gradient_clipping)},
      {.path = "bf16.enabled",
       .note = "bf16 weights with exact fp32 masters; else fp32",
       .may_be_auto = true,
       .into = bf16},
      {.path = "communication_data_type",
       .type = ValueType::kString,
       .standard = "null",
       .note = "must be the training dtype",
       .may_be_null = true,
       .choices = {"fp32", "fp16", "bf16", "bfp16"}},
  };
}

void check_communication(const Draft& draft, Problems& problems) {
  const KeyValue* type = draft.given("communication_data_type");
  const std::string dtype = draft.config.dtype == Dtype::kBf16 ? "bf16" : "fp32";
  if (type == nullptr || type->text == dtype || (type->text == "bfp16" && dtype == "bf16")) return;
  problems.push_back("communication_data_type: \"" + type->text + "\" with training in " + dtype +
                     " would change results and is not built");
}

// train = micro x accumulation x world. From one or two of the three the others follow as in
// DeepSpeed: train alone means no accumulation; with neither train nor micro, micro is 1.
void finish_batch(Draft& draft, Problems& problems) {
  const std::uint64_t world = draft.input->world_size;
  std::uint64_t& train = draft.config.train_batch_size;  // 0: not given, as the other two
  std::uint64_t& micro = draft.config.micro_batch_size;
  std::uint64_t& accumulation = draft.config.gradient_accumulation_steps;
  if (train == 0 || (micro != 0 && accumulation != 0)) {
    if (micro == 0) micro = 1;
    if (accumulation == 0) accumulation = 1;
    std::uint64_t product = micro;
    if (!multiply(product, accumulation) || !multiply(product, world)) {
      problems.push_back("train_micro_batch_size_per_gpu " + text(micro) +
                         " x gradient_accumulation_steps " + text(accumulation) + " x world size " +
                         text(world) + " is too large");
      return;
    }
    if (train == 0) train = product;
    if (train == product) return;
    problems.push_back("train_batch_size " + text(train) +
                       " is not train_micro_batch_size_per_gpu " + text(micro) +
                       " x gradient_accumulation_steps " + text(accumulation) + " x world size " +
                       text(world) + " = " + text(product));
    return;
  }
  const bool by_micro = micro != 0;
  if (!by_micro && accumulation == 0) accumulation = 1;
  // At most 2^53 by its type, so that only an absurd number of ranks could overflow it.
  std::uint64_t known = by_micro ? micro : accumulation;
  if (!multiply(known, world)) known = std::numeric_limits<std::uint64_t>::max();
  (by_micro ? accumulation : micro) = train / known;
  if (train % known == 0) return;
  problems.push_back(
      "train_batch_size " + text(train) + " does not divide by " +
      (by_micro ? "train_micro_batch_size_per_gpu " : "gradient_accumulation_steps ") +
      text(known / world) + " x world size " + text(world) + " = " + text(known) + " (remainder " +
      text(train % known) + ")");
}

}  // namespace spillway::trainer
