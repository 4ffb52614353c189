#include "update_memory.h"

#include <sys/mman.h>
#include "trainer/kernels/block_quantisation.h"
#include "trainer/kernels/hi_lo.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

using namespace spillway::trainer;

namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

// A cache line in the widest vectors the CPU has, as our kernel.
typedef std::uint32_t Line __attribute__((vector_size(64), may_alias));
#if defined(__x86_64__)
#define WIDEST_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST_VECTORS
#endif

// The compiler cannot know that `zero` is 0 nor that nobody looks at `seen`, so it must load and
// store everything.
volatile std::uint32_t zero_bits = 0;

WIDEST_VECTORS void twin(const UpdateMemory::Stream* streams, std::size_t first_block,
                         std::size_t blocks) {
  const Line zero = Line{} + zero_bits;
  Line seen{};
  for (std::size_t block = first_block; block < first_block + blocks; ++block) {
    for (std::size_t s = 0; s < UpdateMemory::kStreams; ++s) {
      const UpdateMemory::Stream& stream = streams[s];
      auto* lines = reinterpret_cast<Line*>(stream.data + block * stream.block_bytes);
      const std::size_t count = stream.block_bytes / sizeof(Line);
      if (!stream.written) {
        for (std::size_t i = 0; i < count; ++i) seen |= lines[i];
      } else if (count == 0 && stream.block_bytes > 0) {  // a block's absmax
        auto* absmax = reinterpret_cast<volatile std::uint32_t*>(lines);
        *absmax = *absmax ^ zero[0];
      } else {
        for (std::size_t i = 0; i < count; i += 4) {
          const Line a = lines[i], b = lines[i + 1], c = lines[i + 2], d = lines[i + 3];
          lines[i] = a ^ zero;
          lines[i + 1] = b ^ zero;
          lines[i + 2] = c ^ zero;
          lines[i + 3] = d ^ zero;
        }
      }
    }
  }
  asm volatile("" : : "m"(seen));
}

// Of the values of one block of a state.
void store_block(StateDtype dtype, CodeBook book, const float* values, std::byte* states,
                 float* absmax) {
  for (std::size_t i = 0; i < kQuantisedBlock; ++i) {
    if (dtype == StateDtype::kFp32) reinterpret_cast<float*>(states)[i] = values[i];
    if (dtype == StateDtype::kBf16) {
      reinterpret_cast<std::uint16_t*>(states)[i] =
          static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[i]) >> 16);
    }
  }
  if (dtype == StateDtype::kInt8) {
    encode_blocks(book, values, kQuantisedBlock, reinterpret_cast<std::uint8_t*>(states), absmax);
  }
}

}  // namespace

Plane::Plane(std::size_t size_bytes) : size_bytes_(size_bytes + kHugePageBytes) {
  data_ = ::mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data_ == MAP_FAILED) {
    std::perror("adam_bench: mmap");
    std::exit(1);
  }
  ::madvise(data_, size_bytes_, MADV_HUGEPAGE);
}

Plane::Plane(Plane&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(other.size_bytes_) {}

Plane& Plane::operator=(Plane&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

Plane::~Plane() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
}

UpdateMemory::UpdateMemory(const OptimizerFormat& format, std::size_t count)
    : format_(format), count_(count) {
  const std::size_t weight_bytes = bf16_weights() ? 2 : 4;
  weight_ = Plane(count * weight_bytes);
  if (bf16_weights()) lo_ = Plane(count * 2);
  for (std::uint32_t k = 0; k < state_count(format.kind); ++k) {
    states_[k] = Plane(count * state_bytes());
    if (format.states == StateDtype::kInt8) absmax_[k] = Plane(count / kQuantisedBlock * 4);
  }
  const bool bf16_gradients = format.gradients == Dtype::kBf16;
  gradient_ = Plane(count * (bf16_gradients ? 2 : 4));

  std::mt19937 random(1);
  std::vector<float> noise(std::size_t{1} << 16);
  std::ranges::generate(noise, [&] { return std::normal_distribution<float>(0, 1)(random); });
  for (std::size_t i = 0; i < count; ++i) {
    const float weight = 0.1f * noise[i % noise.size()];
    const float gradient = 0.01f * noise[(7 * i) % noise.size()];
    if (bf16_weights()) {
      const HiLo halves = hi_lo_split(weight);
      weight_.as<std::uint16_t>()[i] = halves.hi;
      lo_.as<std::uint16_t>()[i] = halves.lo;
    } else {
      weight_.as<float>()[i] = weight;
    }
    if (bf16_gradients) {
      gradient_.as<std::uint16_t>()[i] =
          static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(gradient) >> 16);
    } else {
      gradient_.as<float>()[i] = gradient;
    }
  }
  for (std::size_t first = 0; first < count; first += kQuantisedBlock) {
    for (std::uint32_t k = 0; k < state_count(format.kind); ++k) {
      const bool squares = k == 1 || format.kind == OptimizerKind::kAdagrad;
      float values[kQuantisedBlock];
      for (std::size_t i = 0; i < kQuantisedBlock; ++i) {
        const float value = noise[(first + i) % noise.size()];
        values[i] = squares ? 1e-4f * value * value : 0.01f * value;
      }
      float* absmax = absmax_[k].as<float>();
      store_block(format.states, squares ? CodeBook::kUnsigned : CodeBook::kSigned, values,
                  states_[k].as<std::byte>() + first * state_bytes(),
                  absmax == nullptr ? nullptr : absmax + first / kQuantisedBlock);
    }
  }
}

std::size_t UpdateMemory::state_bytes() const {
  return format_.states == StateDtype::kInt8 ? 1 : format_.states == StateDtype::kBf16 ? 2 : 4;
}

UpdatePlanes UpdateMemory::planes() const {
  return {.format = format_,
          .weight = weight_.as<void>(),
          .weight_lo = lo_.as<std::uint16_t>(),
          .states = {states_[0].as<void>(), states_[1].as<void>()},
          .absmax = {absmax_[0].as<float>(), absmax_[1].as<float>()},
          .gradient = gradient_.as<void>()};
}

std::array<UpdateMemory::Stream, UpdateMemory::kStreams> UpdateMemory::streams() const {
  const auto of = [](const Plane& plane, std::size_t block_bytes, bool written = true) {
    auto* data = plane.as<std::byte>();
    return Stream{data, data == nullptr ? 0 : block_bytes, written};
  };
  const std::size_t states = kQuantisedBlock * state_bytes();
  return {of(gradient_, kQuantisedBlock * (format_.gradients == Dtype::kBf16 ? 2 : 4), false),
          of(weight_, kQuantisedBlock * (bf16_weights() ? 2 : 4)),
          of(lo_, kQuantisedBlock * 2),
          of(states_[0], states),
          of(states_[1], states),
          of(absmax_[0], 4),
          of(absmax_[1], 4)};
}

double UpdateMemory::bytes_per_parameter() const {
  double bytes = 0;
  for (const Stream& stream : streams()) {
    bytes += static_cast<double>(stream.block_bytes) * (stream.written ? 2 : 1) / kQuantisedBlock;
  }
  return bytes;
}

void UpdateMemory::run_twin(std::size_t first, std::size_t count) const {
  twin(streams().data(), first / kQuantisedBlock, count / kQuantisedBlock);
}

std::uint64_t UpdateMemory::fingerprint() const {
  std::uint64_t hash = 0;
  for (const Stream& stream : streams()) {
    const std::size_t words = count_ / kQuantisedBlock * stream.block_bytes / 4;
    for (std::size_t i = 0; i < words; ++i) {
      hash = (hash ^ reinterpret_cast<const std::uint32_t*>(stream.data)[i]) * 0x100000001b3u;
    }
  }
  return hash;
}
