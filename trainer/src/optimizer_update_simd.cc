// update_range by Google Highway, compiled once per SIMD target of this file and chosen at run
// time. One kernel for each optimizer and number format.
#include "optimizer_arithmetic.h"
#include "simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/optimizer_update_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

const char* simd_target() { return hwy::TargetName(HWY_TARGET); }

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void update_run(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                std::uint64_t count) {
  update_run_reference(constants, planes, first, count);
}

#else

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
using Bits32 = hn::RebindToUnsigned<FloatTag>;
using Int32 = hn::RebindToSigned<FloatTag>;
using Bits16 = hn::Rebind<std::uint16_t, FloatTag>;
using Int16 = hn::Rebind<std::int16_t, FloatTag>;
constexpr std::size_t kLanes = hn::MaxLanes(FloatTag());

HWY_INLINE hn::Vec<Bits32> bits_without_nan(Floats value) {
  const auto canonical_nan = hn::BitCast(FloatTag(), hn::Set(Bits32(), 0x7fc00000));
  return hn::BitCast(Bits32(), hn::IfThenElse(hn::IsNaN(value), canonical_nan, value));
}

// One vector of values from and to a plane of fp32 or bf16.
template <bool kBf16>
HWY_INLINE Floats load(const void* plane, std::size_t i) {
  if constexpr (kBf16) {
    const auto halves = hn::LoadU(Bits16(), static_cast<const std::uint16_t*>(plane) + i);
    return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(Bits32(), halves)));
  } else {
    return hn::LoadU(FloatTag(), static_cast<const float*>(plane) + i);
  }
}

template <bool kBf16>
HWY_INLINE void store(Floats value, void* plane, std::size_t i) {
  if constexpr (kBf16) {
    const auto bits = bits_without_nan(value);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(Bits32(), 1));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(Bits32(), 0x7fff)), odd);
    hn::StoreU(hn::TruncateTo(Bits16(), hn::ShiftRight<16>(rounded)), Bits16(),
               static_cast<std::uint16_t*>(plane) + i);
  } else {
    hn::StoreU(value, FloatTag(), static_cast<float*>(plane) + i);
  }
}

// bf16_bits_at_random of a vector of elements whose numbers are `x`.
HWY_INLINE void store_at_random(Floats value, hn::Vec<Bits32> x, void* plane, std::size_t i) {
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(Bits32(), 0x7feb352du));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(Bits32(), 0x846ca68bu));
  x = hn::And(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(Bits32(), 0xffff));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits_without_nan(value), x));
  hn::StoreU(hn::TruncateTo(Bits16(), rounded), Bits16(), static_cast<std::uint16_t*>(plane) + i);
}

// One vector of master weights from and to the planes; hi_lo_split and hi_lo_join in vectors.
template <bool kSplit>
HWY_INLINE Floats load_weight(const UpdatePlanes& planes, std::size_t i) {
  if constexpr (kSplit) {
    const auto* hi_plane = static_cast<const std::uint16_t*>(planes.weight);
    const auto hi = hn::PromoteTo(Bits32(), hn::LoadU(Bits16(), hi_plane + i));
    const auto lo =
        hn::PromoteTo(Int32(), hn::BitCast(Int16(), hn::LoadU(Bits16(), planes.weight_lo + i)));
    const auto bits = hn::Add(hn::ShiftLeft<16>(hi), hn::BitCast(Bits32(), lo));
    return hn::BitCast(FloatTag(), bits);
  } else {
    return load<false>(planes.weight, i);
  }
}

template <bool kSplit>
HWY_INLINE void store_weight(Floats master, const UpdatePlanes& planes, std::size_t i) {
  if constexpr (kSplit) {
    const auto bits = bits_without_nan(master);
    const auto hi = hn::ShiftRight<16>(hn::Add(bits, hn::Set(Bits32(), 0x8000)));
    hn::StoreU(hn::TruncateTo(Bits16(), hi), Bits16(),
               static_cast<std::uint16_t*>(planes.weight) + i);
    hn::StoreU(hn::TruncateTo(Bits16(), bits), Bits16(), planes.weight_lo + i);
  } else {
    store<false>(master, planes.weight, i);
  }
}

// UpdateConstants, each in every lane.
struct Constants {
  Constants(const UpdateConstants& c, std::uint32_t first_element)
      : beta1(hn::Set(FloatTag(), c.beta1)),
        one_minus_beta1(hn::Set(FloatTag(), c.one_minus_beta1)),
        beta2(hn::Set(FloatTag(), c.beta2)),
        one_minus_beta2(hn::Set(FloatTag(), c.one_minus_beta2)),
        inv_sqrt_bias2(hn::Set(FloatTag(), c.inv_sqrt_bias2)),
        epsilon(hn::Set(FloatTag(), c.epsilon)),
        step_size(hn::Set(FloatTag(), c.step_size)),
        decay(hn::Set(FloatTag(), c.decay)),
        l2(hn::Set(FloatTag(), c.l2)),
        grad_scale(hn::Set(FloatTag(), c.grad_scale)),
        random(hn::Iota(Bits32(), c.rounding_key + first_element)) {}

  Floats beta1, one_minus_beta1, beta2, one_minus_beta2, inv_sqrt_bias2, epsilon, step_size, decay,
      l2, grad_scale;
  hn::Vec<Bits32> random;  // what element 0 of the tile and those after it are rounded by
};

HWY_INLINE Floats sign(Floats value) {
  const auto zero = hn::Zero(FloatTag());
  const auto one = hn::Set(FloatTag(), 1.0f);
  const auto negative = hn::IfThenElse(hn::Lt(value, zero), hn::Neg(one), value);
  return hn::IfThenElse(hn::Gt(value, zero), one, negative);
}

// The arithmetic of the header on one vector.
template <OptimizerKind kKind>
HWY_INLINE void update_vector(const Constants& c, Floats grad, Floats& p, Floats& state0,
                              Floats& state1) {
  auto g = hn::Mul(grad, c.grad_scale);
  if constexpr (kKind == OptimizerKind::kAdam || kKind == OptimizerKind::kAdagrad) {
    g = hn::MulAdd(c.l2, p, g);
  }
  if constexpr (kKind == OptimizerKind::kLion) {
    const auto u = hn::MulAdd(c.beta1, state0, hn::Mul(c.one_minus_beta1, g));
    state0 = hn::MulAdd(c.beta2, state0, hn::Mul(c.one_minus_beta2, g));
    p = hn::NegMulAdd(c.step_size, sign(u), hn::Mul(p, c.decay));
  } else if constexpr (kKind == OptimizerKind::kAdagrad) {
    state0 = hn::MulAdd(g, g, state0);
    p = hn::NegMulAdd(c.step_size, hn::Div(g, hn::Add(hn::Sqrt(state0), c.epsilon)), p);
  } else {
    state0 = hn::MulAdd(c.beta1, state0, hn::Mul(c.one_minus_beta1, g));
    state1 = hn::MulAdd(c.beta2, state1, hn::Mul(c.one_minus_beta2, hn::Mul(g, g)));
    const auto denominator = hn::Add(hn::Mul(hn::Sqrt(state1), c.inv_sqrt_bias2), c.epsilon);
    if constexpr (kKind == OptimizerKind::kAdamW) p = hn::Mul(p, c.decay);
    p = hn::NegMulAdd(c.step_size, hn::Div(state0, denominator), p);
  }
}

// A kernel for each combination of formats.
template <OptimizerKind kKind, bool kSplit, bool kBf16States, bool kBf16Gradients>
struct Kernel {
  // kVectors vectors from element `i` on. All are loaded before the first is stored: longer bursts
  // of each stream, which the memory answers faster.
  template <std::size_t kVectors>
  static HWY_INLINE void update_at(const Constants& c, const UpdatePlanes& planes, std::size_t i) {
    constexpr bool kTwo = state_count(kKind) == 2;
    Floats p[kVectors], state0[kVectors], state1[kVectors], grad[kVectors];
    for (std::size_t k = 0; k < kVectors; ++k) {
      grad[k] = load<kBf16Gradients>(planes.gradient, i + k * kLanes);
      state0[k] = load<kBf16States>(planes.states[0], i + k * kLanes);
      state1[k] = kTwo ? load<kBf16States>(planes.states[1], i + k * kLanes) : hn::Zero(FloatTag());
      p[k] = load_weight<kSplit>(planes, i + k * kLanes);
    }
    for (std::size_t k = 0; k < kVectors; ++k) {
      update_vector<kKind>(c, grad[k], p[k], state0[k], state1[k]);
    }
    for (std::size_t k = 0; k < kVectors; ++k) {
      store_weight<kSplit>(p[k], planes, i + k * kLanes);
      store<kBf16States>(state0[k], planes.states[0], i + k * kLanes);
      if constexpr (kTwo && kBf16States) {
        const auto element = static_cast<std::uint32_t>(i + k * kLanes);
        store_at_random(state1[k], hn::Add(c.random, hn::Set(Bits32(), element)), planes.states[1],
                        i + k * kLanes);
      } else if constexpr (kTwo) {
        store<false>(state1[k], planes.states[1], i + k * kLanes);
      }
    }
  }

  // What is left over after whole vectors is for the reference, which has the same bits.
  static HWY_INLINE void run(const UpdateConstants& constants, const UpdatePlanes& planes,
                             std::size_t first, std::size_t count) {
    constexpr std::size_t kTogether = 4;
    const Constants c(constants, planes.first_element);
    const std::size_t end = first + count;
    std::size_t i = first;
    for (; end - i >= kTogether * kLanes; i += kTogether * kLanes) {
      update_at<kTogether>(c, planes, i);
    }
    for (; end - i >= kLanes; i += kLanes) {
      update_at<1>(c, planes, i);
    }
    update_run_reference(constants, planes, i, end - i);
  }
};

template <OptimizerKind kKind, bool kSplit, bool kBf16States>
void update_by_gradients(const UpdateConstants& constants, const UpdatePlanes& planes,
                         std::size_t first, std::size_t count) {
  if (planes.format.gradients == Dtype::kBf16) {
    Kernel<kKind, kSplit, kBf16States, true>::run(constants, planes, first, count);
  } else {
    Kernel<kKind, kSplit, kBf16States, false>::run(constants, planes, first, count);
  }
}

template <OptimizerKind kKind>
void update_by_weights(const UpdateConstants& constants, const UpdatePlanes& planes,
                       std::size_t first, std::size_t count) {
  const bool split = planes.format.weights == Dtype::kBf16;
  const bool bf16_states = planes.format.states == StateDtype::kBf16;
  if (split && bf16_states) {
    update_by_gradients<kKind, true, true>(constants, planes, first, count);
  } else if (split) {
    update_by_gradients<kKind, true, false>(constants, planes, first, count);
  } else if (bf16_states) {
    update_by_gradients<kKind, false, true>(constants, planes, first, count);
  } else {
    update_by_gradients<kKind, false, false>(constants, planes, first, count);
  }
}

void update_run(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                std::uint64_t count) {
  switch (planes.format.kind) {
    case OptimizerKind::kAdamW:
      return update_by_weights<OptimizerKind::kAdamW>(constants, planes, first, count);
    case OptimizerKind::kAdam:
      return update_by_weights<OptimizerKind::kAdam>(constants, planes, first, count);
    case OptimizerKind::kLion:
      return update_by_weights<OptimizerKind::kLion>(constants, planes, first, count);
    case OptimizerKind::kAdagrad:
      return update_by_weights<OptimizerKind::kAdagrad>(constants, planes, first, count);
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(simd_target);
HWY_EXPORT(update_run);

void update_run_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t first, std::uint64_t count) {
  HWY_DYNAMIC_DISPATCH(update_run)(constants, planes, first, count);
}

const char* simd_target_name() noexcept { return HWY_DYNAMIC_DISPATCH(simd_target)(); }

}  // namespace spillway::trainer
#endif
