// The update of each optimizer and number format against its twins, in turns in one run, on the
// same memory:
//
//   twin     a loop over the same streams in place with no arithmetic: what the memory allows
//   torch    at::_fused_adamw_, the operator behind torch.optim.AdamW(fused=True), fp32
//   ours     update_range
//
// adam_bench [millions of parameters] [repetitions]   all formats, 1 and 2 threads
// adam_bench --whole-step N [repetitions]             the CPU's side of a step over N million
//                                                     parameters: norm, then unscale + clip +
//                                                     update
//                                                     + split, 2 threads, bf16 weights
// adam_bench --checksums [millions] [repetitions]     the cost of checksums beside the update
//
// Prints Markdown; exits with 1 when a result is wrong. DeepSpeedCPUAdam: adam_deepspeed.py.
#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include "trainer/kernels/hi_lo.h"
#include "trainer/kernels/sum_of_squares.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "checksum_cost.h"
#include "machine_card.h"
#include "repetitions.h"
#include "update_memory.h"

namespace {

using namespace spillway::trainer;

constexpr int kStep = 10;

UpdateOptions options_of(OptimizerKind kind) {
  return {.kind = kind, .learning_rate = 1e-4, .weight_decay = 0.01};
}

UpdateConstants constants_of(OptimizerKind kind, float grad_scale = 1) {
  return UpdateConstants::at_step(options_of(kind), kStep, grad_scale);
}

struct Row {
  const char* name;
  OptimizerFormat format;
};

constexpr auto kB16 = Dtype::kBf16;
constexpr auto kF32 = Dtype::kFp32;
constexpr std::array kRows{
    Row{"AdamW, all fp32", {.kind = OptimizerKind::kAdamW}},
    Row{"AdamW, bf16 weights", {.kind = OptimizerKind::kAdamW, .weights = kB16}},
    Row{"AdamW, bf16 weights and gradients",
        {OptimizerKind::kAdamW, kB16, StateDtype::kFp32, kB16}},
    Row{"AdamW, bf16 weights and states", {OptimizerKind::kAdamW, kB16, StateDtype::kBf16, kF32}},
    Row{"AdamW, bf16 weights, int8 states", {OptimizerKind::kAdamW, kB16, StateDtype::kInt8, kF32}},
    Row{"Adam (L2), bf16 weights", {.kind = OptimizerKind::kAdam, .weights = kB16}},
    Row{"Lion, bf16 weights", {.kind = OptimizerKind::kLion, .weights = kB16}},
    Row{"Adagrad, bf16 weights", {.kind = OptimizerKind::kAdagrad, .weights = kB16}},
};

void run_torch(const UpdateMemory& memory) {
  const UpdatePlanes planes = memory.planes();
  const auto tensor = [&memory](const void* data) {
    return at::from_blob(const_cast<void*>(data), {static_cast<std::int64_t>(memory.count())},
                         at::kFloat);
  };
  const UpdateOptions options = options_of(OptimizerKind::kAdamW);
  at::_fused_adamw_({tensor(planes.weight)}, {tensor(planes.gradient)}, {tensor(planes.states[0])},
                    {tensor(planes.states[1])}, {}, {at::tensor(static_cast<float>(kStep))},
                    options.learning_rate, options.beta1, options.beta2, options.weight_decay,
                    options.epsilon, /*amsgrad=*/false, /*maximize=*/false);
}

void run_ours(const UpdateMemory& memory, int threads) {
  const UpdateConstants constants = constants_of(memory.format().kind);
  in_parallel(threads, memory.count(), [&](std::size_t first, std::size_t size) {
    update_range(constants, memory.planes(), first, size);
  });
}

void run_twin(const UpdateMemory& memory, int threads) {
  in_parallel(threads, memory.count(),
              [&](std::size_t first, std::size_t size) { memory.run_twin(first, size); });
}

void print(const Contender& one, const Contender& twin, double bytes, std::size_t count) {
  const double time_ms = median(one.milliseconds);
  const auto parameters = static_cast<double>(count);
  std::printf("| %s | %.2f | %.3f | %.2f | %.1f | %.3f |\n", one.name.c_str(), time_ms,
              time_ms * 1e6 / parameters, bytes, bytes * parameters / time_ms / 1e6,
              ratio_to(twin, one));
}

// One format: its twin, ours, and torch where it has the same.
std::vector<Contender> measure_row(const Row& row, std::size_t count, int threads,
                                   int repetitions) {
  const UpdateMemory memory(row.format, count);
  std::vector<Contender> list{
      {std::string("twin of ") + row.name, 0, [&] { run_twin(memory, threads); }},
      {row.name, 0, [&] { run_ours(memory, threads); }}};
  if (&row == kRows.data()) {
    at::set_num_threads(threads);
    list.push_back({"torch fused AdamW, fp32", 0, [&] { run_torch(memory); }});
  }
  measure(list, repetitions);
  for (const Contender& one : list) print(one, list[0], memory.bytes_per_parameter(), count);
  std::fflush(stdout);
  return list;
}

void bench_formats(std::size_t count, int threads, int repetitions) {
  std::printf("\n## %d thread%s\n\n", threads, threads == 1 ? "" : "s");
  std::printf("| | median ms | ns/parameter | bytes/parameter | GB/s | of its twin |\n");
  std::printf("|---|---|---|---|---|---|\n");
  std::vector<Contender> all;
  for (const Row& row : kRows) {
    for (Contender& one : measure_row(row, count, threads, repetitions)) {
      all.push_back(std::move(one));
    }
  }
  std::printf("\nOurs against torch, fp32: %.3f times its speed.\n", ratio_to(all[2], all[1]));
  print_repetitions(all);
}

// What the CPU does in a step with offload: as ZeRO-Offload's engine.step().
void bench_whole_step(std::size_t count, int repetitions) {
  constexpr int kThreads = 2;
  constexpr double kMaxNorm = 1;
  std::printf("\n| whole step, %d threads | median ms | ns/parameter | M parameters/s |\n",
              kThreads);
  std::printf("|---|---|---|---|\n");
  for (const Row& row : {kRows[1], kRows[2], kRows[4]}) {
    const UpdateMemory memory(row.format, count);
    const bool bf16 = row.format.gradients == Dtype::kBf16;
    double norm = 0;
    const auto sum_all = [&] {
      double sums[kThreads] = {};
      in_parallel(kThreads, count, [&](std::size_t first, std::size_t size) {
        const void* gradient = memory.planes().gradient;
        sums[first == 0 ? 0 : 1] =
            bf16 ? sum_of_squares(static_cast<const std::uint16_t*>(gradient) + first, size)
                 : sum_of_squares(static_cast<const float*>(gradient) + first, size);
      });
      norm = std::sqrt(sums[0] + sums[1]);
    };
    const auto step = [&] {
      sum_all();
      const auto scale = static_cast<float>(std::min(1.0, kMaxNorm / (norm + 1e-6)));
      const UpdateConstants constants = constants_of(row.format.kind, scale);
      in_parallel(kThreads, count, [&](std::size_t first, std::size_t size) {
        update_range(constants, memory.planes(), first, size);
      });
    };
    std::vector<Contender> list{{row.name, 0, step},
                                {std::string(row.name) + ": norm", 0, sum_all}};
    measure(list, repetitions);
    for (const Contender& one : list) {
      const double time_ms = median(one.milliseconds);
      std::printf("| %s | %.2f | %.3f | %.0f |\n", one.name.c_str(), time_ms,
                  time_ms * 1e6 / static_cast<double>(count),
                  static_cast<double>(count) / time_ms / 1e3);
    }
  }
}

void bench_checksums(const Row& row, std::size_t count, int repetitions) {
  const UpdateMemory memory(row.format, count);
  const UpdateConstants constants = constants_of(row.format.kind);
  for (const int threads : {1, 2}) {
    std::vector<Contender> list = checksum_contenders(constants, memory, threads);
    measure(list, repetitions);
    std::printf("\n| %s, %d thread%s | median ms | ns/parameter | time over none |\n", row.name,
                threads, threads == 1 ? "" : "s");
    std::printf("|---|---|---|---|\n");
    for (const Contender& one : list) {
      const double time_ms = median(one.milliseconds);
      std::printf("| %s | %.2f | %.3f | %.2f |\n", one.name.c_str(), time_ms,
                  time_ms * 1e6 / static_cast<double>(count), 1 / ratio_to(list[0], one));
    }
    print_repetitions(list);
  }
}

// All formats with bf16 weights and AdamW whose states differ.
int bench_all_checksums(std::size_t count, int repetitions) {
  if (!block_hash_sees_damage(1000)) return 1;
  for (const Row& row : {kRows[1], kRows[3], kRows[4]}) {
    if (!hashed_update_is_right(constants_of(row.format.kind), row.format)) {
      std::printf("the hashed update is WRONG: %s\n", row.name);
      return 1;
    }
    bench_checksums(row, count, repetitions);
  }
  return 0;
}

// One step of each from the same state: our two formats agree in every bit, torch within the
// rounding of its own order of operations, and the twins change nothing.
bool results_are_right() {
  constexpr std::size_t kCount = std::size_t{1} << 20;
  bool right = true;
  for (const Row& row : kRows) {
    const UpdateMemory memory(row.format, kCount);
    const std::uint64_t before = memory.fingerprint();
    run_twin(memory, 2);
    right &= memory.fingerprint() == before;
    run_ours(memory, 2);
    right &= memory.fingerprint() != before;
  }
  const UpdateMemory fp32(kRows[0].format, kCount), torch(kRows[0].format, kCount);
  const UpdateMemory bf16(kRows[1].format, kCount);
  run_ours(fp32, 2);
  run_ours(bf16, 2);
  run_torch(torch);
  double largest = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const float ours = static_cast<const float*>(fp32.planes().weight)[i];
    right &= ours == hi_lo_join({static_cast<const std::uint16_t*>(bf16.planes().weight)[i],
                                 bf16.planes().weight_lo[i]});
    const double theirs = static_cast<const float*>(torch.planes().weight)[i];
    largest = std::max(largest, std::abs(ours - theirs));
  }
  right &= largest < 1e-7;
  std::printf(
      "- check: bf16 masters equal fp32's parameters in every bit; largest difference of a "
      "parameter to torch's %.1e; twins change nothing; %s\n",
      largest, right ? "right" : "WRONG");
  return right;
}

void print_card(std::size_t count, int repetitions) {
  std::printf("# The optimizer's update on the CPU\n\n");
  print_machine_card();
  std::printf("- SIMD: %s\n- %zu parameters, %d repetitions, contenders alternating, huge pages\n",
              simd_target_name(), count, repetitions);
}

}  // namespace

int main(int argc, char** argv) {
  const bool named = argc > 1 && std::strncmp(argv[1], "--", 2) == 0;
  const std::string mode = named ? argv[1] : "";
  char** rest = argv + (named ? 2 : 1);
  const auto left = argv + argc - rest;
  const std::size_t count = (left > 0 ? std::strtoull(rest[0], nullptr, 10) : 32) << 20;
  const int repetitions = left > 1 ? std::atoi(rest[1]) : 25;
  if (count == 0 || repetitions < 1 || (named && mode != "--whole-step" && mode != "--checksums")) {
    std::fprintf(stderr,
                 "usage: adam_bench [--whole-step | --checksums] [millions of parameters] "
                 "[repetitions]\n");
    return 1;
  }
  print_card(count, repetitions);
  if (!results_are_right()) return 1;
  if (mode == "--whole-step") {
    bench_whole_step(count, repetitions);
  } else if (mode == "--checksums") {
    return bench_all_checksums(count, repetitions);
  } else {
    for (const int threads : {1, 2}) bench_formats(count, threads, repetitions);
  }
  return 0;
}
