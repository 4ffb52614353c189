// Vectors of fp32 from and to the planes of a tile, whatever these are kept in. Included by the
// update's kernel after Highway, once for each target; no guard, as Highway wants it.
#include <hwy/highway.h>

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
using Bits32 = hn::RebindToUnsigned<FloatTag>;
using Int32 = hn::RebindToSigned<FloatTag>;
using Bits16 = hn::Rebind<std::uint16_t, FloatTag>;
using Int16 = hn::Rebind<std::int16_t, FloatTag>;
constexpr std::size_t kLanes = hn::MaxLanes(FloatTag());

// kVectors vectors of values from and to a plane of fp32 or bf16; from `i` on.
template <bool kBf16, std::size_t kVectors>
HWY_INLINE void load(Floats (&values)[kVectors], const void* plane, std::size_t i) {
  for (std::size_t k = 0; k < kVectors; ++k, i += kLanes) {
    if constexpr (kBf16) {
      const auto halves = hn::LoadU(Bits16(), static_cast<const std::uint16_t*>(plane) + i);
      values[k] = hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(Bits32(), halves)));
    } else {
      values[k] = hn::LoadU(FloatTag(), static_cast<const float*>(plane) + i);
    }
  }
}

template <std::size_t kVectors>
HWY_INLINE void store(const Floats (&values)[kVectors], void* plane, std::size_t i) {
  for (std::size_t k = 0; k < kVectors; ++k, i += kLanes) {
    hn::StoreU(values[k], FloatTag(), static_cast<float*>(plane) + i);
  }
}

enum class Half { kLower, kUpper };

// One half of each value's bits; of two vectors with one shuffle.
template <Half kHalf, std::size_t kVectors>
HWY_INLINE void store_halves(const hn::Vec<Bits32> (&bits)[kVectors], std::uint16_t* plane,
                             std::size_t i) {
  if constexpr (kVectors == 1) {
    const auto low = kHalf == Half::kUpper ? hn::ShiftRight<16>(bits[0]) : bits[0];
    hn::StoreU(hn::TruncateTo(Bits16(), low), Bits16(), plane + i);
  } else {
    static_assert(kVectors % 2 == 0);
    const hn::Repartition<std::uint16_t, FloatTag> halves;
    for (std::size_t k = 0; k < kVectors; k += 2, i += 2 * kLanes) {
      const auto low = hn::BitCast(halves, bits[k]), high = hn::BitCast(halves, bits[k + 1]);
      hn::StoreU(kHalf == Half::kUpper ? hn::ConcatOdd(halves, high, low)
                                       : hn::ConcatEven(halves, high, low),
                 halves, plane + i);
    }
  }
}

// bf16_bits. REQUIRES, here and in what follows: every NaN is 0x7fc00000.
template <std::size_t kVectors>
HWY_INLINE void store_to_nearest(const Floats (&values)[kVectors], void* plane, std::size_t i) {
  hn::Vec<Bits32> rounded[kVectors];
  for (std::size_t k = 0; k < kVectors; ++k) {
    const auto bits = hn::BitCast(Bits32(), values[k]);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(Bits32(), 1));
    rounded[k] = hn::Add(hn::Add(bits, hn::Set(Bits32(), 0x7fff)), odd);
  }
  store_halves<Half::kUpper>(rounded, static_cast<std::uint16_t*>(plane), i);
}

// bf16_bits_at_random; `random`: what element 0 of the plane and those after it are rounded by.
template <std::size_t kVectors>
HWY_INLINE void store_at_random(const Floats (&values)[kVectors], hn::Vec<Bits32> random,
                                void* plane, std::size_t i) {
  hn::Vec<Bits32> rounded[kVectors];
  const auto first = hn::Add(random, hn::Set(Bits32(), static_cast<std::uint32_t>(i)));
  for (std::size_t k = 0; k < kVectors; ++k) {
    auto x = hn::Add(first, hn::Set(Bits32(), static_cast<std::uint32_t>(k * kLanes)));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(Bits32(), 0x7feb352du));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(Bits32(), 0x846ca68bu));
    x = hn::And(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(Bits32(), 0xffff));
    rounded[k] = hn::Add(hn::BitCast(Bits32(), values[k]), x);
  }
  store_halves<Half::kUpper>(rounded, static_cast<std::uint16_t*>(plane), i);
}

// Master weights from and to the planes; hi_lo_split and hi_lo_join in vectors.
template <bool kSplit, std::size_t kVectors>
HWY_INLINE void load_weight(Floats (&masters)[kVectors], const UpdatePlanes& planes,
                            std::size_t i) {
  if constexpr (kSplit) {
    const auto* hi_plane = static_cast<const std::uint16_t*>(planes.weight);
    for (std::size_t k = 0; k < kVectors; ++k, i += kLanes) {
      const auto hi = hn::PromoteTo(Bits32(), hn::LoadU(Bits16(), hi_plane + i));
      const auto lo =
          hn::PromoteTo(Int32(), hn::BitCast(Int16(), hn::LoadU(Bits16(), planes.weight_lo + i)));
      const auto bits = hn::Add(hn::ShiftLeft<16>(hi), hn::BitCast(Bits32(), lo));
      masters[k] = hn::BitCast(FloatTag(), bits);
    }
  } else {
    load<false>(masters, planes.weight, i);
  }
}

template <bool kSplit, std::size_t kVectors>
HWY_INLINE void store_weight(const Floats (&masters)[kVectors], const UpdatePlanes& planes,
                             std::size_t i) {
  if constexpr (kSplit) {
    hn::Vec<Bits32> bits[kVectors], rounded[kVectors];
    for (std::size_t k = 0; k < kVectors; ++k) {
      bits[k] = hn::BitCast(Bits32(), masters[k]);
      rounded[k] = hn::Add(bits[k], hn::Set(Bits32(), 0x8000));
    }
    store_halves<Half::kUpper>(rounded, static_cast<std::uint16_t*>(planes.weight), i);
    store_halves<Half::kLower>(bits, planes.weight_lo, i);
  } else {
    store(masters, planes.weight, i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#endif
