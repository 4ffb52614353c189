#include "tools/spillway/estimate/cpu_speed.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <malloc.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/block_hash.h>
#include <spillway/trainer/model_units.h>
#include <torch/csrc/autograd/autograd.h>
#include "trainer/plan/optimizer_layout.h"
#include "trainer/plan/step_time.h"
#include "trainer/plan/update_constants.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <limits>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace spillway::tools {
namespace {

using trainer::EstimateInput;

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

std::shared_ptr<trainer::Unit> make_module(const trainer::ModelSpec& spec, trainer::UnitId unit,
                                           at::ScalarType type) {
  auto module = spec.units()[unit].make();
  for (at::Tensor& parameter : module->parameters()) {
    parameter.set_data(parameter.detach().to(type));
  }
  return module;
}

Probe make_probe(const trainer::ModelSpec& spec, trainer::UnitId unit, at::ScalarType type) {
  Probe probe{make_module(spec, unit, type), {}, {}};
  for (const trainer::Borrow& borrow : spec.units()[unit].borrows) {
    const auto owner = make_module(spec, borrow.owner, type);
    probe.context.borrowed.push_back(owner->named_parameters()[borrow.parameter]);
  }
  probe.leaves = probe.module->parameters();
  probe.leaves.insert(probe.leaves.end(), probe.context.borrowed.begin(),
                      probe.context.borrowed.end());
  std::erase_if(probe.leaves, [](const at::Tensor& leaf) { return !leaf.requires_grad(); });
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
  UnitProbes(const EstimateInput& input, const trainer::ModelConfig& model)
      : micro_batch_(static_cast<std::int64_t>(input.config.micro_batch_size)),
        tokens_(static_cast<std::int64_t>(input.tokens_per_sample())),
        type_(input.config.dtype == trainer::Dtype::kBf16 ? at::kBFloat16 : at::kFloat),
        shape_(input.model) {
    units_ = trainer::add_units(spec_, model);
  }

  // Of all units together: the seconds of each of them, the working memory of the largest.
  UnitFigures measure() const {
    UnitFigures all;
    for (const trainer::UnitProbe& probe : units_->probes()) {
      const UnitFigures one = measure(probe);
      all.seconds_a_token += probe.uses * one.seconds_a_token;
      all.working_bytes = std::max(all.working_bytes, one.working_bytes);
    }
    return all;
  }

 private:
  UnitFigures measure(const trainer::UnitProbe& unit) const {
    constexpr double kModestFlops = 1e11;
    const trainer::UnitShape& shape = shape_.units[unit.unit];
    std::int64_t tokens = tokens_;
    const auto flops = [&] {
      const auto count = static_cast<double>(tokens);
      return flops_of_unit(shape.products + shape.products_per_token * count, count);
    };
    while (tokens > 64 && flops() > kModestFlops) tokens /= 2;
    const auto samples = std::clamp<std::int64_t>(static_cast<std::int64_t>(kModestFlops / flops()),
                                                  1, micro_batch_);
    Probe probe = make_probe(spec_, unit.unit, type_);
    const std::vector<at::Tensor> inputs = unit.inputs(samples, tokens, type_);
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
  const trainer::ModelShape& shape_;
  trainer::ModelSpec spec_;
  std::unique_ptr<trainer::ModelUnits> units_;
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

CpuSpeed measure_cpu(const EstimateInput& input, const trainer::ModelConfig& model) {
  at::set_num_threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  CpuSpeed speed;
  const UnitFigures units = UnitProbes(input, model).measure();
  const double tokens =
      static_cast<double>(input.config.micro_batch_size * input.config.gradient_accumulation_steps *
                          input.tokens_per_sample());
  if (units.seconds_a_token > 0) {
    speed.flops = trainer::step_flops(input) / (units.seconds_a_token * tokens);
  }
  for (const trainer::MemoryRow& row : trainer::estimate(input).rows) {
    if (row.what != trainer::kComputeRow) continue;
    const auto formula = static_cast<double>(row.bytes.ram + row.bytes.device);
    if (formula > 0) speed.compute_scale = units.working_bytes / formula;
  }
  speed.update_bytes = update_speed(input.config);
  speed.hash_bytes = hash_speed();
  malloc_trim(0);
  speed.program_bytes = pinned_pool::memory_usage().resident_bytes;
  return speed;
}

}  // namespace spillway::tools
