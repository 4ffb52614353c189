#include "trainer/plan/step_time.h"

#include <spillway/aio/check.h>
#include <algorithm>
#include "trainer/plan/optimizer_layout.h"

namespace spillway::trainer {
namespace {

constexpr double kGradientBytes = 4;

// Of the model's products: forward, recomputation where there is one, and two in backward.
double sweeps(const Config& config) { return config.activations.checkpointing ? 4 : 3; }

double weight_bytes(const Config& config) { return config.dtype == Dtype::kBf16 ? 2 : 4; }

// Of as many bytes each way a mix, the rest alone.
double storage_seconds(double read, double written, const MachineSpeeds& speeds) {
  if (read + written == 0) return 0;
  double mixed = speeds.mixed_bytes;
  if (mixed <= 0 && speeds.read_bytes > 0 && speeds.write_bytes > 0) {
    mixed = 2 / (1 / speeds.read_bytes + 1 / speeds.write_bytes);  // one direction at a time
  }
  const double both = std::min(read, written);
  double seconds = 0;
  if (both > 0) seconds += 2 * both / mixed;
  if (read > both) seconds += (read - both) / speeds.read_bytes;
  if (written > both) seconds += (written - both) / speeds.write_bytes;
  return seconds;
}

bool storage_speed_known(const StepTraffic& traffic, const MachineSpeeds& speeds) {
  return traffic.read() + traffic.written() == 0 ||
         (speeds.read_bytes > 0 && (speeds.mixed_bytes > 0 || speeds.write_bytes > 0));
}

struct Model {
  const EstimateInput& input;
  const Estimate& estimate;
  const MachineSpeeds& speeds;
  double elements = static_cast<double>(estimate.trainable_elements);
  double weights = static_cast<double>(estimate.rank_elements) * weight_bytes(input.config);
  bool on_gpu = input.on_gpu;

  double hash_seconds(double bytes) const {
    return speeds.hash_bytes > 0 ? bytes / speeds.hash_bytes : 0;
  }
  double copy_seconds(double bytes) const { return bytes / speeds.update_bytes; }

  // A sweep of forward or backward: the weights come to where units run, and are computed with.
  PhaseTime sweep(double flops, double read_bytes, double written_bytes) const {
    PhaseTime phase;
    phase[Resource::kCompute] = flops / speeds.flops;
    if (storage_speed_known(estimate.traffic, speeds)) {
      phase[Resource::kStorage] = storage_seconds(read_bytes, written_bytes, speeds);
    }
    phase[Resource::kCpu] = hash_seconds(read_bytes + written_bytes);
    if (!on_gpu) {
      phase[Resource::kCpu] += copy_seconds(2 * weights);
    } else if (input.config.offload_param.device != OffloadDevice::kNone) {
      phase[Resource::kToDevice] = weights / speeds.pcie_bytes;
    }
    return phase;
  }

  // Gradients of each micro-batch are summed: the first is copied in, others are added; the norm
  // reads the sum once more.
  PhaseTime backward(double flops) const {
    PhaseTime phase =
        sweep(flops, estimate.traffic.backward_read, estimate.traffic.backward_written);
    const double from = weight_bytes(input.config);
    const double more = static_cast<double>(input.config.gradient_accumulation_steps - 1);
    if (!on_gpu) {
      phase[Resource::kCpu] += copy_seconds(
          elements * (from + kGradientBytes + more * (from + 2 * kGradientBytes) + kGradientBytes));
    } else if (input.config.offload_optimizer.device != OffloadDevice::kNone) {
      phase[Resource::kFromDevice] += elements * kGradientBytes / speeds.pcie_bytes;
      phase[Resource::kCpu] += copy_seconds(elements * kGradientBytes);
    }
    return phase;
  }

  PhaseTime update() const {
    PhaseTime phase;
    const double bytes = elements * update_bytes_per_parameter(input.config);
    const StepTraffic& traffic = estimate.traffic;
    if (on_gpu && input.config.offload_optimizer.device == OffloadDevice::kNone) {
      phase[Resource::kCompute] =
          speeds.device_memory_bytes > 0 ? bytes / speeds.device_memory_bytes : 0;
    } else {
      phase[Resource::kCpu] = copy_seconds(bytes);
    }
    phase[Resource::kCpu] += hash_seconds(traffic.update_read + traffic.update_written);
    if (storage_speed_known(traffic, speeds)) {
      phase[Resource::kStorage] =
          storage_seconds(traffic.update_read, traffic.update_written, speeds);
    }
    return phase;
  }
};

double seconds_in_order(const StepTime& time, const StepTraffic& traffic,
                        const MachineSpeeds& speeds) {
  const bool one = time.one_processor;
  const double backward = time.backward.seconds(one);
  if (!time.in_background) return time.forward.seconds(one) + backward + time.update.seconds(one);
  PhaseTime both = time.forward;
  both += time.update;
  if (time.during_backward) return (both += time.backward).seconds(one);
  const double idle = backward - time.backward[Resource::kStorage];
  const double moved = traffic.update_read + traffic.update_written;
  const double writes =
      moved > 0 ? time.update[Resource::kStorage] * traffic.update_written / moved : 0;
  const double read = traffic.forward_read + traffic.update_read;
  const double reads = read > 0 && time.storage_known ? read / speeds.read_bytes : 0;
  both[Resource::kStorage] = std::max(both[Resource::kStorage] - std::min(idle, writes), reads);
  return both.seconds(one) + backward;
}

}  // namespace

const char* name_of(Resource resource) {
  constexpr const char* kNames[kResources] = {"compute", "CPU", "NVMe", "PCIe to the device",
                                              "PCIe from the device"};
  return kNames[static_cast<std::size_t>(resource)];
}

PhaseTime& PhaseTime::operator+=(const PhaseTime& other) {
  for (std::size_t i = 0; i < kResources; ++i) use[i] += other.use[i];
  return *this;
}

double PhaseTime::seconds(bool one_processor) const {
  const PhaseTime& self = *this;
  double longest =
      std::max({self[Resource::kStorage], self[Resource::kToDevice], self[Resource::kFromDevice]});
  const double compute = self[Resource::kCompute], cpu = self[Resource::kCpu];
  return std::max(longest, one_processor ? compute + cpu : std::max(compute, cpu));
}

double step_flops(const EstimateInput& input) {
  const auto context = static_cast<double>(input.tokens_per_sample());
  double products = 0;
  for (const UnitUse& use : input.model.uses) {
    const UnitShape& unit = input.model.units[use.unit];
    products += unit.products + unit.products_per_token * context;
  }
  const double tokens = static_cast<double>(input.config.micro_batch_size *
                                            input.config.gradient_accumulation_steps) *
                        context;
  return sweeps(input.config) * 2 * products * tokens;
}

double update_bytes_per_parameter(const Config& config) {
  const double planes =
      bytes_per_element(weight_layout(config)) + bytes_per_element(optimizer_layout(config));
  return 2 * planes + kGradientBytes;
}

StepTime step_time(const EstimateInput& input, const Estimate& estimate,
                   const MachineSpeeds& speeds) {
  SPILLWAY_CHECK(speeds.flops > 0 && speeds.update_bytes > 0, "speeds of the machine");
  SPILLWAY_CHECK(!input.on_gpu || speeds.pcie_bytes > 0, "a device is reached through PCIe");
  const Model model{input, estimate, speeds};
  const double flops = step_flops(input);
  StepTime time;
  time.one_processor = !input.on_gpu;
  time.storage_known = storage_speed_known(estimate.traffic, speeds);
  const double forward = flops / sweeps(input.config);
  time.forward =
      model.sweep(forward, estimate.traffic.forward_read, estimate.traffic.forward_written);
  time.backward = model.backward(flops - forward);
  time.update = model.update();
  time.in_background = updates_in_background(input);
  time.during_backward = time.in_background && keeps_generations(input.config);
  time.seconds = seconds_in_order(time, estimate.traffic, speeds);
  PhaseTime all = time.forward;
  (all += time.backward) += time.update;
  if (time.one_processor) {
    all[Resource::kCompute] += all[Resource::kCpu];
    all[Resource::kCpu] = 0;
  }
  const auto longest = std::max_element(all.use.begin(), all.use.end());
  time.limit = static_cast<Resource>(longest - all.use.begin());
  time.bound_seconds = *longest;
  time.seconds_added = time.seconds - time.bound_seconds;
  return time;
}

double break_even_tokens(const EstimateInput& input, const StepTime& time) {
  PhaseTime all = time.forward;
  (all += time.backward) += time.update;
  const double tokens = static_cast<double>(input.config.micro_batch_size *
                                            input.config.gradient_accumulation_steps) *
                        static_cast<double>(input.tokens_per_sample());
  const double beside = time.one_processor ? all[Resource::kCpu] : 0;
  const double wanted = all[Resource::kStorage] - beside;
  if (wanted <= 0 || all[Resource::kCompute] <= 0) return 0;
  return tokens * wanted / all[Resource::kCompute];
}

}  // namespace spillway::trainer
