// update_range by Google Highway, compiled once per SIMD target of this file and chosen at run
// time. One kernel for each optimizer and number format, without and with the hashes of what it
// loads and stores.
#include "optimizer_arithmetic.h"
#include "simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/optimizer_update_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

#include "line_hash-inl.h"

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

const char* simd_target() { return hwy::TargetName(HWY_TARGET); }

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void update_run(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                std::uint64_t count) {
  update_run_reference(constants, planes, first, count);
}

void update_hashed(const UpdateConstants& constants, const UpdatePlanes& planes,
                   std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                   UpdateHashes& after) {
  update_hashed_reference(constants, planes, first, count, before, after);
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

// The hashes of the planes that are written, in the order of UpdateHashes.
template <bool kSplit, bool kBf16States, bool kTwo>
struct PlaneHashes {
  explicit PlaneHashes(const UpdateHashes& from)
      : weight(from.planes[0]),
        lo(from.planes[1]),
        state0(from.planes[kSplit ? 2 : 1]),
        state1(from.planes[kSplit ? 3 : 2]) {}
  void store(UpdateHashes& to) const {
    weight.store(to.planes[0]);
    if constexpr (kSplit) lo.store(to.planes[1]);
    state0.store(to.planes[kSplit ? 2 : 1]);
    if constexpr (kTwo) state1.store(to.planes[kSplit ? 3 : 2]);
  }
  // What the planes hold of so many vectors.
  template <std::size_t kVectors>
  HWY_INLINE void add(const UpdatePlanes& planes, std::size_t i) {
    constexpr std::size_t kElements = kVectors * kLanes;
    const auto at = [i](const void* plane, std::size_t bytes) {
      return static_cast<const std::byte*>(plane) + i * bytes;
    };
    constexpr std::size_t kWeight = kSplit ? 2 : 4, kState = kBf16States ? 2 : 4;
    weight.template add<kElements * kWeight>(at(planes.weight, kWeight));
    if constexpr (kSplit) lo.template add<kElements * 2>(at(planes.weight_lo, 2));
    state0.template add<kElements * kState>(at(planes.states[0], kState));
    if constexpr (kTwo) state1.template add<kElements * kState>(at(planes.states[1], kState));
  }
  LineHash weight, lo, state0, state1;
};

// A kernel for each combination of formats.
template <OptimizerKind kKind, bool kSplit, bool kBf16States, bool kBf16Gradients>
struct Kernel {
  static constexpr bool kTwo = state_count(kKind) == 2;
  // Vectors a loop: whole lines of every plane. With halves to be rounded, more than two would not
  // fit into the registers.
  static constexpr std::size_t kTogether = std::max<std::size_t>(kBf16States ? 2 : 4, 32 / kLanes);
  using Hashes = PlaneHashes<kSplit, kBf16States, kTwo>;

  // Makes every NaN the one that halves are made of. Whatever makes another result NaN makes the
  // weight NaN too, but for Lion's moment.
  template <std::size_t kVectors>
  static HWY_INLINE void unify_nan(Floats (&p)[kVectors], Floats (&state0)[kVectors],
                                   Floats (&state1)[kVectors]) {
    if constexpr (!kSplit && !kBf16States) return;
    auto any = hn::IsNaN(p[0]);
    for (std::size_t k = 1; k < kVectors; ++k) any = hn::Or(any, hn::IsNaN(p[k]));
    if constexpr (kKind == OptimizerKind::kLion && kBf16States) {
      for (std::size_t k = 0; k < kVectors; ++k) any = hn::Or(any, hn::IsNaN(state0[k]));
    }
    if (HWY_LIKELY(hn::AllFalse(FloatTag(), any))) return;
    const auto nan = hn::BitCast(FloatTag(), hn::Set(Bits32(), 0x7fc00000));
    for (std::size_t k = 0; k < kVectors; ++k) {
      p[k] = hn::IfThenElse(hn::IsNaN(p[k]), nan, p[k]);
      state0[k] = hn::IfThenElse(hn::IsNaN(state0[k]), nan, state0[k]);
      state1[k] = hn::IfThenElse(hn::IsNaN(state1[k]), nan, state1[k]);
    }
  }

  // kVectors vectors from element `i` on. All are loaded before the first is stored: longer bursts
  // of each stream, which the memory answers faster.
  template <std::size_t kVectors>
  static HWY_INLINE void update_at(const Constants& c, const UpdatePlanes& planes, std::size_t i) {
    Floats p[kVectors], state0[kVectors], state1[kVectors], grad[kVectors];
    load<kBf16Gradients>(grad, planes.gradient, i);
    load<kBf16States>(state0, planes.states[0], i);
    if constexpr (kTwo) load<kBf16States>(state1, planes.states[1], i);
    load_weight<kSplit>(p, planes, i);
    for (std::size_t k = 0; k < kVectors; ++k) {
      if constexpr (!kTwo) state1[k] = hn::Zero(FloatTag());
      update_vector<kKind>(c, grad[k], p[k], state0[k], state1[k]);
    }
    unify_nan(p, state0, state1);
    store_weight<kSplit>(p, planes, i);
    if constexpr (kBf16States) {
      store_to_nearest(state0, planes.states[0], i);
      if constexpr (kTwo) store_at_random(state1, c.random, planes.states[1], i);
    } else {
      store(state0, planes.states[0], i);
      if constexpr (kTwo) store(state1, planes.states[1], i);
    }
  }

  // What is left over after whole vectors is for the reference, which has the same bits.
  static void run(const UpdateConstants& constants, const UpdatePlanes& planes, std::size_t first,
                  std::size_t count) {
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

  static void run_hashed(const UpdateConstants& constants, const UpdatePlanes& planes,
                         std::size_t first, std::size_t count, UpdateHashes& hashes_before,
                         UpdateHashes& hashes_after) {
    static_assert(kHashedTogether % (kTogether * kLanes) == 0);
    const Constants c(constants, planes.first_element);
    Hashes before(hashes_before), after(hashes_after);
    for (std::size_t i = first; i < first + count; i += kTogether * kLanes) {
      before.template add<kTogether>(planes, i);
      update_at<kTogether>(c, planes, i);
      after.template add<kTogether>(planes, i);
    }
    before.store(hashes_before);
    after.store(hashes_after);
  }
};

// Calls body.operator()<Kernel>() with that of the planes' format.
template <OptimizerKind kKind, bool kSplit, bool kBf16States, typename Body>
HWY_INLINE void with_gradients(const OptimizerFormat& format, const Body& body) {
  if (format.gradients == Dtype::kBf16) {
    body.template operator()<Kernel<kKind, kSplit, kBf16States, true> >();
  } else {
    body.template operator()<Kernel<kKind, kSplit, kBf16States, false> >();
  }
}

template <OptimizerKind kKind, typename Body>
HWY_INLINE void with_weights(const OptimizerFormat& format, const Body& body) {
  const bool split = format.weights == Dtype::kBf16;
  const bool bf16_states = format.states == StateDtype::kBf16;
  if (split && bf16_states) {
    with_gradients<kKind, true, true>(format, body);
  } else if (split) {
    with_gradients<kKind, true, false>(format, body);
  } else if (bf16_states) {
    with_gradients<kKind, false, true>(format, body);
  } else {
    with_gradients<kKind, false, false>(format, body);
  }
}

template <typename Body>
HWY_INLINE void with_kernel(const OptimizerFormat& format, const Body& body) {
  switch (format.kind) {
    case OptimizerKind::kAdamW:
      return with_weights<OptimizerKind::kAdamW>(format, body);
    case OptimizerKind::kAdam:
      return with_weights<OptimizerKind::kAdam>(format, body);
    case OptimizerKind::kLion:
      return with_weights<OptimizerKind::kLion>(format, body);
    case OptimizerKind::kAdagrad:
      return with_weights<OptimizerKind::kAdagrad>(format, body);
  }
}

void update_run(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                std::uint64_t count) {
  with_kernel(planes.format, [&]<typename K>() { K::run(constants, planes, first, count); });
}

void update_hashed(const UpdateConstants& constants, const UpdatePlanes& planes,
                   std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                   UpdateHashes& after) {
  with_kernel(planes.format,
              [&]<typename K>() { K::run_hashed(constants, planes, first, count, before, after); });
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(simd_target);
HWY_EXPORT(update_run);
HWY_EXPORT(update_hashed);

void update_run_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t first, std::uint64_t count) {
  HWY_DYNAMIC_DISPATCH(update_run)(constants, planes, first, count);
}

void update_hashed_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                        std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                        UpdateHashes& after) {
  HWY_DYNAMIC_DISPATCH(update_hashed)(constants, planes, first, count, before, after);
}

const char* simd_target_name() noexcept { return HWY_DYNAMIC_DISPATCH(simd_target)(); }

}  // namespace spillway::trainer
#endif
