#include "tools/spillway/estimate/cpu_speed.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <malloc.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/block_hash.h>
#include <torch/csrc/autograd/autograd.h>
#include "trainer/models/gpt2/model.h"
#include "trainer/plan/optimizer_layout.h"
#include "trainer/plan/step_time.h"
#include "trainer/plan/update_constants.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <limits>
#include <span>
#include <thread>
#include <vector>

namespace spillway::tools {
namespace {

using trainer::EstimateInput;
using trainer::GptConfig;

constexpr double kEnoughSeconds = 0.5;  // of one measurement
constexpr int kRepetitions = 3;         // the fastest counts: others' work only slows it down

template <typename Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <typename Work>
double fastest(const Work& work) {
  double best = std::numeric_limits<double>::max(), sum = 0;
  for (int i = 0; i < kRepetitions && (i == 0 || sum < kEnoughSeconds); ++i) {
    const double seconds = seconds_of(work);
    best = std::min(best, seconds);
    sum += seconds;
  }
  return best;
}

// A unit with its weights as training has them.
struct Probe {
  std::shared_ptr<trainer::Unit> module;
  trainer::ForwardContext context;
  std::vector<at::Tensor> leaves;
};

Probe make_probe(const trainer::ModelSpec& spec, trainer::UnitId unit, at::ScalarType type) {
  Probe probe{spec.units()[unit].make(), {}, {}};
  for (at::Tensor& parameter : probe.module->parameters()) {
    parameter.set_data(parameter.detach().to(type));
    probe.leaves.push_back(parameter);
  }
  return probe;
}

// What training does with a unit for one micro-batch: forward, then forward again and backward.
void run_unit(Probe& probe, const std::vector<at::Tensor>& inputs) {
  {
    const at::NoGradGuard no_graph;
    probe.module->forward(inputs, probe.context);
  }
  const at::AutoGradMode record(true);
  std::vector<at::Tensor> own = inputs;
  own[0] = inputs[0].detach().requires_grad_(true);
  std::vector<at::Tensor> leaves = probe.leaves;
  leaves.push_back(own[0]);
  const at::Tensor output = probe.module->forward(own, probe.context);
  torch::autograd::grad({output}, leaves, {at::ones_like(output)}, false, false, true);
}

double flops_of_unit(double products_per_token, double tokens) {
  return 4 * 2 * products_per_token * tokens;
}

// The most that the work holds beside what is held before it. 0 where the kernel does not let the
// peak be set back (/proc/self/clear_refs).
template <typename Work>
std::uint64_t working_bytes(const Work& work) {
  malloc_trim(0);
  std::ofstream reset("/proc/self/clear_refs");
  reset << "5" << std::flush;
  if (!reset) return 0;
  const auto before = pinned_pool::memory_usage();
  work();
  const auto after = pinned_pool::memory_usage();
  return after.peak_resident_bytes - std::min(after.peak_resident_bytes, before.resident_bytes);
}

struct UnitFigures {
  double seconds_a_token = 0;
  double working_bytes = 0;  // for a micro-batch
};

// What a unit takes for one micro-batch. Of large ones a part is measured: fewer samples, and of a
// sample fewer tokens; the rest is taken to be in proportion.
class UnitProbes {
 public:
  explicit UnitProbes(const EstimateInput& input)
      : micro_batch_(static_cast<std::int64_t>(input.config.micro_batch_size)),
        tokens_(static_cast<std::int64_t>(input.tokens_per_sample())),
        type_(input.config.dtype == trainer::Dtype::kBf16 ? at::kBFloat16 : at::kFloat),
        model_(input.model) {
    model_.n_layer = 1;
    model_.tie_word_embeddings = false;  // the head's product is the same, and it stands alone
    units_ = trainer::add_gpt(spec_, model_);
  }

  UnitFigures block() const {
    const double width = model_.n_embd;
    return measure(units_.blocks[0], 12 * width * width, 2 * width, false);
  }
  UnitFigures head() const {
    return measure(units_.head, static_cast<double>(model_.n_embd) * model_.vocab_size, 0, true);
  }

 private:
  UnitFigures measure(trainer::UnitId unit, double products, double products_a_token,
                      bool with_targets) const {
    constexpr double kModestFlops = 1e11;
    std::int64_t tokens = tokens_;
    const auto flops = [&] {
      const auto count = static_cast<double>(tokens);
      return flops_of_unit(products + products_a_token * count, count);
    };
    while (tokens > 64 && flops() > kModestFlops) tokens /= 2;
    const auto samples = std::clamp<std::int64_t>(static_cast<std::int64_t>(kModestFlops / flops()),
                                                  1, micro_batch_);
    Probe probe = make_probe(spec_, unit, type_);
    std::vector<at::Tensor> inputs{at::randn({samples, tokens, model_.n_embd}).to(type_)};
    if (with_targets) inputs.push_back(at::zeros({samples, tokens}, at::kLong));
    seconds_of([&] { run_unit(probe, inputs); });  // kernels are chosen, memory is touched
    UnitFigures figures;
    const auto part = static_cast<double>(samples * tokens);
    figures.working_bytes = static_cast<double>(working_bytes([&] { run_unit(probe, inputs); })) *
                            static_cast<double>(micro_batch_ * tokens_) / part;
    figures.seconds_a_token = fastest([&] { run_unit(probe, inputs); }) / part;
    return figures;
  }

  std::int64_t micro_batch_, tokens_;
  at::ScalarType type_;
  GptConfig model_;
  trainer::ModelSpec spec_;
  trainer::GptUnits units_;
};

// Bytes a second of the fused update on planes that no cache holds.
double update_speed(const trainer::Config& config) {
  constexpr std::int64_t kElements = std::int64_t{8} << 20;
  constexpr std::int64_t kTask = 1 << 14;
  const swapper::Layout weights = trainer::weight_layout(config);
  const swapper::Layout states = trainer::optimizer_layout(config);
  std::vector<std::byte> weight(weights.tile_bytes(kElements)), state(states.tile_bytes(kElements));
  const std::vector<float> gradient(kElements, 1e-3f);
  std::vector<std::byte*> planes;
  for (std::uint32_t plane = 0; plane < states.plane_count(); ++plane) {
    planes.push_back(&state[states.plane_offset(plane, kElements)]);
  }
  auto tile = trainer::update_planes(trainer::optimizer_format(config), weight.data(), planes);
  tile.format.gradients = trainer::Dtype::kFp32;
  tile.gradient = gradient.data();
  const auto constants = trainer::update_constants(config, 1, 1e-3, 1.0f);
  const auto update = [&] {
    at::parallel_for(0, kElements, kTask, [&](std::int64_t first, std::int64_t last) {
      trainer::update_range(constants, tile, first, last - first);
    });
  };
  update();
  return trainer::update_bytes_per_parameter(config) * static_cast<double>(kElements) /
         fastest(update);
}

double hash_speed() {
  constexpr std::int64_t kBytes = std::int64_t{64} << 20, kBlock = 1 << 20;
  const std::vector<char> data(kBytes, 1);
  std::atomic<std::uint64_t> sum{0};
  const auto hash = [&] {
    at::parallel_for(0, kBytes / kBlock, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        swapper::BlockHash block;
        block.add(std::as_bytes(std::span(&data[i * kBlock], kBlock)));
        sum += block.value(kBlock, 0);
      }
    });
  };
  hash();
  return static_cast<double>(kBytes) / fastest(hash);
}

}  // namespace

CpuSpeed measure_cpu(const EstimateInput& input) {
  at::set_num_threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  CpuSpeed speed;
  const UnitProbes probes(input);
  const UnitFigures block = probes.block(), head = probes.head();
  const double tokens =
      static_cast<double>(input.config.micro_batch_size * input.config.gradient_accumulation_steps *
                          input.tokens_per_sample());
  const double seconds = input.model.n_layer * block.seconds_a_token + head.seconds_a_token;
  speed.flops = trainer::step_flops(input) / (seconds * tokens);
  for (const trainer::MemoryRow& row : trainer::estimate(input).rows) {
    if (row.what != trainer::kComputeRow) continue;
    const auto formula = static_cast<double>(row.bytes.ram + row.bytes.device);
    speed.compute_scale = std::max(block.working_bytes, head.working_bytes) / formula;
  }
  speed.update_bytes = update_speed(input.config);
  speed.hash_bytes = hash_speed();
  malloc_trim(0);
  speed.program_bytes = pinned_pool::memory_usage().resident_bytes;
  return speed;
}

}  // namespace spillway::tools
