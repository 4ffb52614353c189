// Dropout by Google Highway, compiled once per SIMD target of this file and chosen at run time.
#include <algorithm>

#include "trainer/kernels/dropout.h"
#include "trainer/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/dropout_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

template <typename T>
void drop(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first, std::uint64_t count,
          const T* from, T* to) {
  dropout_reference(mask, sample, first, count, from, to);
}

#else

namespace hn = hwy::HWY_NAMESPACE;

// At most as many lanes as neighbours take the same word.
using FloatTag = hn::CappedTag<float, kDropoutLanes>;
using Bits32 = hn::RebindToUnsigned<FloatTag>;
using Bits16 = hn::Rebind<std::uint16_t, FloatTag>;
using Words = hn::Vec<Bits32>;
using Wide = hn::Repartition<std::uint64_t, Bits32>;
using WideWords = hn::Vec<Wide>;
constexpr std::size_t kLanes = hn::MaxLanes(FloatTag());
static_assert(kDropoutLanes % kLanes == 0);

// The four words of as many counters as there are 64-bit lanes, each in a lane's lower half. What
// the upper half holds does not matter.
struct Blocks {
  WideWords words[4];
};

HWY_INLINE void philox_round(Blocks& blocks, WideWords key0, WideWords key1) {
  const Bits32 narrow;
  const auto multiply = [&](WideWords word, std::uint32_t by) {
    return hn::MulEven(hn::BitCast(narrow, word), hn::Set(narrow, by));
  };
  auto& words = blocks.words;
  const auto product0 = multiply(words[0], kPhiloxMultiplier0);
  const auto product1 = multiply(words[2], kPhiloxMultiplier1);
  words[0] = hn::Xor(hn::Xor(hn::ShiftRight<32>(product1), words[1]), key0);
  words[1] = product1;
  words[2] = hn::Xor(hn::Xor(hn::ShiftRight<32>(product0), words[3]), key1);
  words[3] = product0;
}

// The random numbers of kLanes counters from `number` on, word by word.
HWY_INLINE void random_words(PhiloxKey key, std::uint64_t sample, std::uint64_t number,
                             Words (&words)[4]) {
  const Wide wide;
  Blocks even, odd;  // counters
  const auto numbers = hn::Add(hn::Set(wide, number), hn::ShiftLeft<1>(hn::Iota(wide, 0)));
  even.words[0] = numbers;
  odd.words[0] = hn::Add(numbers, hn::Set(wide, 1));
  even.words[1] = odd.words[1] = hn::Set(wide, number >> 32);  // a group's counters share it
  even.words[2] = odd.words[2] = hn::Set(wide, sample);
  even.words[3] = odd.words[3] = hn::Set(wide, sample >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const auto key0 = hn::Set(wide, key.words[0]), key1 = hn::Set(wide, key.words[1]);
    philox_round(even, key0, key1);
    philox_round(odd, key0, key1);
    key = {{key.words[0] + kPhiloxWeyl0, key.words[1] + kPhiloxWeyl1}};
  }
  for (int word = 0; word < 4; ++word) {
    words[word] = hn::OddEven(hn::BitCast(Bits32(), hn::ShiftLeft<32>(odd.words[word])),
                              hn::BitCast(Bits32(), even.words[word]));
  }
}

HWY_INLINE hn::Vec<FloatTag> load(const float* from) { return hn::LoadU(FloatTag(), from); }
HWY_INLINE hn::Vec<FloatTag> load(const std::uint16_t* from) {
  const auto wide = hn::PromoteTo(Bits32(), hn::LoadU(Bits16(), from));
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(wide));
}

HWY_INLINE void store(hn::Vec<FloatTag> values, float* to) { hn::StoreU(values, FloatTag(), to); }
HWY_INLINE void store(hn::Vec<FloatTag> values, std::uint16_t* to) {
  const auto bits = hn::BitCast(Bits32(), values);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(Bits32(), 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(Bits32(), 0x7fff)), odd);
  const auto nan = hn::RebindMask(Bits32(), hn::Ne(values, values));
  const auto kept = hn::IfThenElse(nan, hn::Set(Bits32(), 0x7fc00000), rounded);
  hn::StoreU(hn::TruncateTo(Bits16(), hn::ShiftRight<16>(kept)), Bits16(), to);
}

// One group of kDropoutGroup elements, all of them.
template <typename T>
HWY_INLINE void drop_group(const DropoutMask& mask, std::uint64_t sample, std::uint64_t group,
                           const T* from, T* to) {
  const auto scale = hn::Set(FloatTag(), mask.scale);
  // REQUIRES: some are dropped, so that this fits; "word < n" is "word <= n - 1".
  const auto last = hn::Set(Bits32(), static_cast<std::uint32_t>(mask.dropped_words - 1));
  for (std::size_t lane = 0; lane < kDropoutLanes; lane += kLanes) {
    Words words[4];
    random_words(mask.key, sample, group * kDropoutLanes + lane, words);
    for (std::size_t word = 0; word < 4; ++word) {
      const std::size_t i = word * kDropoutLanes + lane;
      const auto kept = hn::RebindMask(FloatTag(), hn::Gt(words[word], last));
      store(hn::IfThenElseZero(kept, hn::Mul(load(from + i), scale)), to + i);
    }
  }
}

template <typename T>
void drop(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first, std::uint64_t count,
          const T* from, T* to) {
  if (mask.dropped_words == 0) {
    return dropout_reference(mask, sample, first, count, from, to);
  }
  const std::uint64_t head =
      std::min((kDropoutGroup - first % kDropoutGroup) % kDropoutGroup, count);
  dropout_reference(mask, sample, first, head, from, to);
  std::uint64_t i = head;
  for (; count - i >= kDropoutGroup; i += kDropoutGroup) {
    drop_group(mask, sample, (first + i) / kDropoutGroup, from + i, to + i);
  }
  dropout_reference(mask, sample, first + i, count - i, from + i, to + i);
}

#endif

void drop_fp32(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
               std::uint64_t count, const float* from, float* to) {
  drop(mask, sample, first, count, from, to);
}

void drop_bf16(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
               std::uint64_t count, const std::uint16_t* from, std::uint16_t* to) {
  drop(mask, sample, first, count, from, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(drop_fp32);
HWY_EXPORT(drop_bf16);

void dropout(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
             std::uint64_t count, const float* from, float* to) noexcept {
  HWY_DYNAMIC_DISPATCH(drop_fp32)(mask, sample, first, count, from, to);
}

void dropout(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
             std::uint64_t count, const std::uint16_t* from, std::uint16_t* to) noexcept {
  HWY_DYNAMIC_DISPATCH(drop_bf16)(mask, sample, first, count, from, to);
}

}  // namespace spillway::trainer
#endif
