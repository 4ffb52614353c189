// update_range by Google Highway, compiled once per SIMD target of this file and chosen at run
// time. One kernel for each optimizer and number format, without and with the hashes of what it
// loads and stores.
#include "trainer/kernels/simd_targets.h"
#include "trainer/kernels/update_arithmetic.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/update_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

#include "trainer/kernels/line_hash-inl.h"
#include "trainer/kernels/plane_vectors-inl.h"

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

void add_quantised(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                   UpdateHashes& hashes) {
  add_elements_reference(planes, first, count, hashes);
}

#else

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

// Of weights and int8 states; the planes' rounds wait for their own one before only.
template <bool kSplit, bool kTwo>
void hash_quantised(const UpdatePlanes& planes, std::size_t first, std::size_t count,
                    UpdateHashes& hashes) {
  constexpr std::size_t kWeight = kSplit ? 2 : 4;
  LineHash weight(hashes.planes[0]), lo(hashes.planes[1]);
  swapper::BlockHash& hash0 = hashes.planes[kSplit ? 2 : 1];
  swapper::BlockHash& hash1 = hashes.planes[kSplit ? 3 : 2];
  LineHash state0(hash0), state1(hash1);
  for (std::size_t i = first; i < first + count; i += kHashedTogether) {
    weight.add<kHashedTogether * kWeight>(static_cast<const std::byte*>(planes.weight) +
                                          i * kWeight);
    if constexpr (kSplit) lo.add<kHashedTogether * 2>(planes.weight_lo + i);
    state0.add<kHashedTogether>(static_cast<const std::byte*>(planes.states[0]) + i);
    if constexpr (kTwo) {
      state1.add<kHashedTogether>(static_cast<const std::byte*>(planes.states[1]) + i);
    }
  }
  weight.store(hashes.planes[0]);
  if constexpr (kSplit) lo.store(hashes.planes[1]);
  state0.store(hash0);
  if constexpr (kTwo) state1.store(hash1);
}

void add_quantised(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                   UpdateHashes& hashes) {
  const bool split = planes.format.weights == Dtype::kBf16;
  const bool two = state_count(planes.format.kind) == 2;
  if (split && two) return hash_quantised<true, true>(planes, first, count, hashes);
  if (split) return hash_quantised<true, false>(planes, first, count, hashes);
  if (two) return hash_quantised<false, true>(planes, first, count, hashes);
  hash_quantised<false, false>(planes, first, count, hashes);
}

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
HWY_EXPORT(add_quantised);

void update_run_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t first, std::uint64_t count) {
  HWY_DYNAMIC_DISPATCH(update_run)(constants, planes, first, count);
}

void update_hashed_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                        std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                        UpdateHashes& after) {
  HWY_DYNAMIC_DISPATCH(update_hashed)(constants, planes, first, count, before, after);
}

void add_elements_simd(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                       UpdateHashes& hashes) {
  if (planes.format.states != StateDtype::kInt8 || count % kHashedTogether != 0) {
    return add_elements(planes, first, count, hashes);
  }
  HWY_DYNAMIC_DISPATCH(add_quantised)(planes, first, count, hashes);
}

const char* simd_target_name() noexcept { return HWY_DYNAMIC_DISPATCH(simd_target)(); }

}  // namespace spillway::trainer
#endif
