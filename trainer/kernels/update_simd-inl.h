// The kernels of an optimizer by Google Highway: one for each number format, without and with the
// hashes of what it loads and stores. Included by each optimizers/<name>_simd.cc after Highway,
// once for each target; no guard, as Highway wants it.
//
// `Arithmetic` of a template is an optimizer on vectors:
//   Optimizer         its struct of optimizers/
//   kWeightShowsNan   whether a state that becomes NaN makes the weight NaN in the same update
//   update(constants, g, p, state0, state1): g is unscaled and clipped; a state that the optimizer
//                     does not have is 0
#include <hwy/highway.h>

#include "trainer/kernels/line_hash-inl.h"
#include "trainer/kernels/plane_vectors-inl.h"
#include "trainer/kernels/update_arithmetic.h"
// After plane_vectors-inl.h and line_hash-inl.h, which they use.
#include "trainer/kernels/constant_vectors-inl.h"
#include "trainer/kernels/plane_hashes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

template <typename Arithmetic>
SimdKernels kernels_of(const OptimizerFormat&) {
  return {update_run_reference, update_hashed_reference};
}

#else

// A kernel for each combination of formats.
template <typename Arithmetic, bool kSplit, bool kBf16States, bool kBf16Gradients>
struct Kernel {
  static constexpr bool kTwo = Arithmetic::Optimizer::kStates == 2;
  // Vectors a loop: whole lines of every plane. With halves to be rounded, more than two would not
  // fit into the registers.
  static constexpr std::size_t kTogether = std::max<std::size_t>(kBf16States ? 2 : 4, 32 / kLanes);
  using Hashes = PlaneHashes<kSplit, kBf16States, kTwo>;

  // Makes every NaN the one that halves are made of.
  template <std::size_t kVectors>
  static HWY_INLINE void unify_nan(Floats (&p)[kVectors], Floats (&state0)[kVectors],
                                   Floats (&state1)[kVectors]) {
    if constexpr (!kSplit && !kBf16States) return;
    auto any = hn::IsNaN(p[0]);
    for (std::size_t k = 1; k < kVectors; ++k) any = hn::Or(any, hn::IsNaN(p[k]));
    if constexpr (!Arithmetic::kWeightShowsNan && kBf16States) {
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
      const auto g = hn::Mul(grad[k], c.grad_scale);
      Arithmetic::update(c, g, p[k], state0[k], state1[k]);
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
  static void run(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                  std::uint64_t count) {
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
                         std::uint64_t first, std::uint64_t count, UpdateHashes& hashes_before,
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

template <typename Arithmetic, bool kSplit, bool kBf16States>
SimdKernels kernels_of_gradients(Dtype gradients) {
  using Bf16 = Kernel<Arithmetic, kSplit, kBf16States, true>;
  using Fp32 = Kernel<Arithmetic, kSplit, kBf16States, false>;
  if (gradients == Dtype::kBf16) return {Bf16::run, Bf16::run_hashed};
  return {Fp32::run, Fp32::run_hashed};
}

template <typename Arithmetic>
SimdKernels kernels_of(const OptimizerFormat& format) {
  const Dtype gradients = format.gradients;
  const bool bf16_states = format.states == StateDtype::kBf16;
  if (format.weights == Dtype::kBf16) {
    return bf16_states ? kernels_of_gradients<Arithmetic, true, true>(gradients)
                       : kernels_of_gradients<Arithmetic, true, false>(gradients);
  }
  return bf16_states ? kernels_of_gradients<Arithmetic, false, true>(gradients)
                     : kernels_of_gradients<Arithmetic, false, false>(gradients);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();
