// AdamW on the CPU against its twins, alternating in one run, on the same memory:
//
//   twin     a loop over the same streams in place with no arithmetic: what the memory allows
//   torch    at::_fused_adamw_, the operator behind torch.optim.AdamW(fused=True), fp32
//   ours     update_range on fp32 planes, and on bf16 planes (hi, lo)
//
// Every one reads 16 bytes and writes 12 per parameter. Usage: adam_bench [millions of parameters]
// [repetitions]. Prints Markdown; exits with 1 when a result is wrong.
#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "spillway/trainer/hi_lo.h"
#include "spillway/trainer/optimizer_update.h"

namespace {

using namespace spillway::trainer;

constexpr double kBytesPerParameter = 28;
constexpr UpdateOptions kOptions{.learning_rate = 1e-4};
constexpr int kStep = 10;

struct AdamPlanesFp32 {
  float *param, *exp_avg, *exp_avg_sq, *grad;
};

struct AdamPlanesBf16 {
  std::uint16_t *param_hi, *param_lo;
  float *exp_avg, *exp_avg_sq;
  const float* grad;
};

void adam_update(const UpdateConstants& constants, const AdamPlanesFp32& planes,
                 std::size_t count) {
  update_range(constants,
               {.weight = planes.param,
                .states = {planes.exp_avg, planes.exp_avg_sq},
                .gradient = planes.grad},
               0, count);
}

void adam_update(const UpdateConstants& constants, const AdamPlanesBf16& planes,
                 std::size_t count) {
  update_range(constants,
               {.format = {.weights = Dtype::kBf16},
                .weight = planes.param_hi,
                .weight_lo = planes.param_lo,
                .states = {planes.exp_avg, planes.exp_avg_sq},
                .gradient = planes.grad},
               0, count);
}

// Anonymous memory in huge pages where the kernel gives them, the same for all. A huge page more
// than needed keeps planes from lying 128 MiB apart: AMD's L1 cache finds its way by a hash of
// address bits 12 to 27 (bit 12 xor 27, 13 xor 26, ...) and holds only one line of a hash, so that
// planes 256 MiB apart push each other out. Here that costs all contenders half their speed.
template <typename T>
class Plane {
 public:
  explicit Plane(std::size_t count) : size_bytes_(count * sizeof(T) + kHugePageBytes) {
    void* memory =
        ::mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("adam_bench: mmap");
      std::exit(1);
    }
    ::madvise(memory, size_bytes_, MADV_HUGEPAGE);
    data_ = static_cast<T*>(memory);
  }
  Plane(const Plane&) = delete;
  Plane& operator=(const Plane&) = delete;
  ~Plane() { ::munmap(data_, size_bytes_); }
  T* data() const { return data_; }

 private:
  static constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
  std::size_t size_bytes_;
  T* data_;
};

struct Model {
  std::size_t count;
  Plane<float> param{count}, exp_avg{count}, exp_avg_sq{count}, grad{count};
  Plane<std::uint16_t> hi{count}, lo{count};

  explicit Model(std::size_t parameters) : count(parameters) {
    std::mt19937 random(1);
    std::vector<float> noise(std::size_t{1} << 16);
    std::ranges::generate(noise, [&] { return std::normal_distribution<float>(0, 1)(random); });
    for (std::size_t i = 0; i < count; ++i) {
      const float value = noise[i % noise.size()];
      param.data()[i] = 0.1f * value;
      exp_avg.data()[i] = 0.01f * value;
      exp_avg_sq.data()[i] = 1e-4f * value * value;
      grad.data()[i] = 0.01f * noise[(7 * i) % noise.size()];
      const HiLo halves = hi_lo_split(param.data()[i]);
      hi.data()[i] = halves.hi;
      lo.data()[i] = halves.lo;
    }
  }
  AdamPlanesFp32 fp32(std::size_t first) const {
    return {param.data() + first, exp_avg.data() + first, exp_avg_sq.data() + first,
            grad.data() + first};
  }
  AdamPlanesBf16 bf16(std::size_t first) const {
    return {hi.data() + first, lo.data() + first, exp_avg.data() + first, exp_avg_sq.data() + first,
            grad.data() + first};
  }
};

// The twins: whole cache lines, those of all streams loaded before the first is stored (planes that
// begin on a page collide otherwise). The compiler cannot know that `zero` is 0 nor that nobody
// looks at `seen`, so it must load and store everything; the bytes stay what they are.
typedef std::uint32_t Line __attribute__((vector_size(64), may_alias));
volatile std::uint32_t zero_bits = 0;

// In the widest vectors the CPU has, as our kernel.
#if defined(__x86_64__)
#define WIDEST_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST_VECTORS
#endif

WIDEST_VECTORS void twin_fp32(Line* param, Line* exp_avg, Line* exp_avg_sq, const Line* grad,
                              std::size_t lines) {
  const Line zero = Line{} + zero_bits;
  Line seen{};
  for (std::size_t i = 0; i < lines; ++i) {
    const Line p = param[i], m = exp_avg[i], v = exp_avg_sq[i];
    seen |= grad[i];
    param[i] = p ^ zero;
    exp_avg[i] = m ^ zero;
    exp_avg_sq[i] = v ^ zero;
  }
  asm volatile("" : : "m"(seen));
}

// A line of hi and lo goes with two of the others.
WIDEST_VECTORS void twin_bf16(Line* hi, Line* lo, Line* exp_avg, Line* exp_avg_sq, const Line* grad,
                              std::size_t lines) {
  const Line zero = Line{} + zero_bits;
  Line seen{};
  for (std::size_t i = 0; i < lines; ++i) {
    const Line h = hi[i], l = lo[i];
    const Line m0 = exp_avg[2 * i], m1 = exp_avg[2 * i + 1];
    const Line v0 = exp_avg_sq[2 * i], v1 = exp_avg_sq[2 * i + 1];
    seen |= grad[2 * i] | grad[2 * i + 1];
    hi[i] = h ^ zero;
    lo[i] = l ^ zero;
    exp_avg[2 * i] = m0 ^ zero;
    exp_avg[2 * i + 1] = m1 ^ zero;
    exp_avg_sq[2 * i] = v0 ^ zero;
    exp_avg_sq[2 * i + 1] = v1 ^ zero;
  }
  asm volatile("" : : "m"(seen));
}

// `count` in whole lines: the few elements of a rest do not show in the time.
void run_twin(const AdamPlanesFp32& planes, std::size_t count) {
  twin_fp32(reinterpret_cast<Line*>(planes.param), reinterpret_cast<Line*>(planes.exp_avg),
            reinterpret_cast<Line*>(planes.exp_avg_sq), reinterpret_cast<const Line*>(planes.grad),
            count / 16);
}

void run_twin(const AdamPlanesBf16& planes, std::size_t count) {
  twin_bf16(reinterpret_cast<Line*>(planes.param_hi), reinterpret_cast<Line*>(planes.param_lo),
            reinterpret_cast<Line*>(planes.exp_avg), reinterpret_cast<Line*>(planes.exp_avg_sq),
            reinterpret_cast<const Line*>(planes.grad), count / 32);
}

void run_torch(const AdamPlanesFp32& planes, std::size_t count) {
  const auto tensor = [count](float* data) {
    return at::from_blob(data, {static_cast<std::int64_t>(count)}, at::kFloat);
  };
  at::_fused_adamw_({tensor(planes.param)}, {tensor(planes.grad)}, {tensor(planes.exp_avg)},
                    {tensor(planes.exp_avg_sq)}, {}, {at::tensor(static_cast<float>(kStep))},
                    kOptions.learning_rate, kOptions.beta1, kOptions.beta2, kOptions.weight_decay,
                    kOptions.epsilon,
                    /*amsgrad=*/false, /*maximize=*/false);
}

// Calls body(first, size) for `threads` equal parts, the last one on this thread.
void in_parallel(int threads, std::size_t count,
                 const std::function<void(std::size_t, std::size_t)>& body) {
  const std::size_t part = count / threads / 32 * 32;  // whole lines: the twins need them aligned
  std::vector<std::jthread> others;
  for (int i = 0; i + 1 < threads; ++i) {
    others.emplace_back(body, i * part, part);
  }
  body((threads - 1) * part, count - (threads - 1) * part);
}

struct Contender {
  std::string name;
  std::function<void(int threads)> step;
  std::vector<double> milliseconds;
};

std::vector<Contender> contenders(const Model& model) {
  const UpdateConstants constants = UpdateConstants::at_step(kOptions, kStep, 1.0f);
  const auto parallel = [&model](auto body) {
    return [&model, body](int threads) { in_parallel(threads, model.count, body); };
  };
  return {
      {"twin, fp32 streams",
       parallel(
           [&model](std::size_t first, std::size_t size) { run_twin(model.fp32(first), size); }),
       {}},
      {"ours, fp32",
       parallel([&model, constants](std::size_t first, std::size_t size) {
         adam_update(constants, model.fp32(first), size);
       }),
       {}},
      {"torch fused AdamW, fp32",
       [&model](int threads) {
         at::set_num_threads(threads);
         run_torch(model.fp32(0), model.count);
       },
       {}},
      {"twin, bf16 streams",
       parallel(
           [&model](std::size_t first, std::size_t size) { run_twin(model.bf16(first), size); }),
       {}},
      {"ours, bf16 (hi + lo)",
       parallel([&model, constants](std::size_t first, std::size_t size) {
         adam_update(constants, model.bf16(first), size);
       }),
       {}},
  };
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Median over the repetitions of time(twin) / time(contender): pairs a moment apart share the
// machine's good and bad minutes.
double ratio_to(const Contender& twin, const Contender& contender) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < twin.milliseconds.size(); ++i) {
    ratios.push_back(twin.milliseconds[i] / contender.milliseconds[i]);
  }
  return median(ratios);
}

void measure(std::vector<Contender>& list, int threads, int repetitions) {
  for (int repetition = -1; repetition < repetitions; ++repetition) {
    for (Contender& contender : list) {
      const auto start = std::chrono::steady_clock::now();
      contender.step(threads);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      if (repetition >= 0) {  // the first pass warms up
        contender.milliseconds.push_back(took.count());
      }
      // torch's OpenMP threads spin some milliseconds after their work: not on the next one's time.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

void print(const std::vector<Contender>& list, std::size_t count, int threads) {
  std::printf("\n## %d thread%s\n\n", threads, threads == 1 ? "" : "s");
  std::printf("| | median ms | ns/parameter | bytes/parameter | GB/s | of its twin |\n");
  std::printf("|---|---|---|---|---|---|\n");
  const std::array twin_of = {0, 0, 0, 3, 3};
  for (std::size_t i = 0; i < list.size(); ++i) {
    const double time_ms = median(list[i].milliseconds);
    std::printf("| %s | %.2f | %.3f | %.0f | %.1f | %.3f |\n", list[i].name.c_str(), time_ms,
                time_ms * 1e6 / count, kBytesPerParameter,
                kBytesPerParameter * count / time_ms / 1e6, ratio_to(list[twin_of[i]], list[i]));
  }
  std::printf("\nOurs against torch, fp32: %.3f times its speed.\n\nMilliseconds of each pass:\n\n",
              ratio_to(list[2], list[1]));
  for (const Contender& contender : list) {
    std::printf("- %s:", contender.name.c_str());
    for (const double time_ms : contender.milliseconds) {
      std::printf(" %.2f", time_ms);
    }
    std::printf("\n");
  }
}

std::uint64_t fingerprint(const Model& model) {
  std::uint64_t hash = 0;
  const auto add = [&hash](std::uint64_t bits) { hash = (hash ^ bits) * 0x100000001b3u; };
  for (std::size_t i = 0; i < model.count; ++i) {
    add(std::bit_cast<std::uint32_t>(model.param.data()[i]));
    add(std::bit_cast<std::uint32_t>(model.exp_avg.data()[i]));
    add(std::bit_cast<std::uint32_t>(model.exp_avg_sq.data()[i]));
    add(model.hi.data()[i] | model.lo.data()[i] << 16);
  }
  return hash;
}

// One step of each from the same state: our two formats agree in every bit, torch within the
// rounding of its own order of operations, and the twins change nothing.
bool results_are_right() {
  constexpr std::size_t kCount = 1000003;
  const Model start(kCount), fp32(kCount), bf16(kCount), torch(kCount);
  for (Contender& contender : contenders(start)) {
    if (contender.name.starts_with("twin")) {
      contender.step(2);
    }
  }
  bool right = fingerprint(start) == fingerprint(fp32);
  contenders(fp32)[1].step(2);
  contenders(torch)[2].step(2);
  contenders(bf16)[4].step(2);
  double largest = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const float ours = fp32.param.data()[i];
    right &= ours == hi_lo_join({bf16.hi.data()[i], bf16.lo.data()[i]});
    largest = std::max(largest, std::abs(double{ours} - torch.param.data()[i]));
  }
  std::printf(
      "- check: bf16 masters equal fp32's parameters in every bit; largest difference of a "
      "parameter to torch's %.1e; %s\n",
      largest, right && largest < 1e-7 ? "right" : "WRONG");
  return right && largest < 1e-7;
}

// The text after the colon of the first line of `path` that begins with `key`.
std::string field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) {
      const std::string value = line.substr(line.find(':') + 1);
      return value.substr(std::min(value.find_first_not_of(' '), value.size()));
    }
  }
  return "unknown";
}

std::string commit() {
  std::array<char, 64> line{};
  if (FILE* git = ::popen("git -C " SPILLWAY_SOURCE_DIR " describe --always 2>/dev/null", "r")) {
    if (std::fgets(line.data(), line.size(), git) == nullptr) {
      line[0] = '\0';
    }
    ::pclose(git);
  }
  const std::string name = line.data();
  return name.empty() ? "unknown" : name.substr(0, name.find('\n'));
}

void print_card(std::size_t count, int repetitions) {
  utsname system{};
  ::uname(&system);
  std::printf("# AdamW on the CPU\n\n");
  std::printf("- CPU: %s, %u cores; %s of memory\n", field("/proc/cpuinfo", "model name").c_str(),
              std::thread::hardware_concurrency(), field("/proc/meminfo", "MemTotal").c_str());
  std::printf("- %s %s; gcc %s; torch %s; Spillway %s\n", system.sysname, system.release,
              __VERSION__, TORCH_VERSION, commit().c_str());
  std::printf("- SIMD: %s\n- %zu parameters, %d repetitions, contenders alternating, huge pages\n",
              simd_target_name(), count, repetitions);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t count = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 32) << 20;
  const int repetitions = argc > 2 ? std::atoi(argv[2]) : 25;
  if (count == 0 || repetitions < 1) {
    std::fprintf(stderr, "usage: adam_bench [millions of parameters] [repetitions]\n");
    return 1;
  }
  print_card(count, repetitions);
  if (!results_are_right()) {
    return 1;
  }
  const Model model(count);
  for (const int threads : {1, 2}) {
    std::vector<Contender> list = contenders(model);
    measure(list, threads, repetitions);
    print(list, count, threads);
  }
  return 0;
}
