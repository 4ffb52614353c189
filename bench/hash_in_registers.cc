#include "hash_in_registers.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "hash_in_registers.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace {
namespace HWY_NAMESPACE {

using spillway::trainer::UpdateConstants;
using spillway::trainer::UpdatePlanes;

#if HWY_TARGET == HWY_AVX3

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
using Bits32 = hn::RebindToUnsigned<FloatTag>;
using Int32 = hn::RebindToSigned<FloatTag>;
using Words = hn::ScalableTag<std::uint64_t>;
using Halves = hn::ScalableTag<std::uint16_t>;  // of two vectors of floats
using HalfLine = hn::Half<Halves>;

bool wide() { return true; }

struct Sums {
  hn::Vec<Words> sum, weighted;

  template <typename V>
  HWY_INLINE void add(V line) {
    sum = hn::Add(sum, hn::BitCast(Words(), line));
    weighted = hn::Add(weighted, sum);
  }
  HWY_INLINE void load(const LaneSums& from) {
    sum = hn::Load(Words(), from.sum);
    weighted = hn::Load(Words(), from.weighted);
  }
  HWY_INLINE void store(LaneSums& to) const {
    hn::Store(sum, Words(), to.sum);
    hn::Store(weighted, Words(), to.weighted);
  }
};

HWY_INLINE Floats join(hn::Vec<HalfLine> hi, hn::Vec<HalfLine> lo) {
  const auto high = hn::ShiftLeft<16>(hn::PromoteTo(Bits32(), hi));
  const hn::RebindToSigned<HalfLine> of_int16;
  const auto low = hn::PromoteTo(Int32(), hn::BitCast(of_int16, lo));
  return hn::BitCast(FloatTag(), hn::Add(high, hn::BitCast(Bits32(), low)));
}

HWY_INLINE void update_vector(const UpdateConstants& c, Floats grad, Floats& p, Floats& m,
                              Floats& v) {
  const FloatTag d;
  const auto g = hn::Mul(grad, hn::Set(d, c.grad_scale));
  m = hn::MulAdd(hn::Set(d, c.beta1), m, hn::Mul(hn::Set(d, c.one_minus_beta1), g));
  v = hn::MulAdd(hn::Set(d, c.beta2), v, hn::Mul(hn::Set(d, c.one_minus_beta2), hn::Mul(g, g)));
  const auto root = hn::Mul(hn::Sqrt(v), hn::Set(d, c.inv_sqrt_bias2));
  const auto quotient = hn::Div(m, hn::Add(root, hn::Set(d, c.epsilon)));
  p = hn::NegMulAdd(hn::Set(d, c.step_size), quotient, hn::Mul(p, hn::Set(d, c.decay)));
}

void run(const UpdateConstants& c, const UpdatePlanes& planes, std::size_t first, std::size_t count,
         PlaneSums& sums) {
  const FloatTag d;
  const Halves halves;
  const HalfLine half;
  const Bits32 bits32;
  auto* hi_plane = static_cast<std::uint16_t*>(planes.weight);
  auto* m_plane = static_cast<float*>(planes.states[0]);
  auto* v_plane = static_cast<float*>(planes.states[1]);
  const auto* gradient = static_cast<const float*>(planes.gradient);
  Sums before[4], after[4];
  for (int k = 0; k < 4; ++k) {
    before[k].load(sums.before[k]);
    after[k].load(sums.after[k]);
  }
  for (std::size_t i = first; i < first + count; i += 32) {
    const auto hi = hn::LoadU(halves, hi_plane + i), lo = hn::LoadU(halves, planes.weight_lo + i);
    Floats m[2], v[2], p[2];
    before[0].add(hi);
    before[1].add(lo);
    p[0] = join(hn::LowerHalf(half, hi), hn::LowerHalf(half, lo));
    p[1] = join(hn::UpperHalf(half, hi), hn::UpperHalf(half, lo));
    for (int k = 0; k < 2; ++k) {
      m[k] = hn::LoadU(d, m_plane + i + 16 * k);
      v[k] = hn::LoadU(d, v_plane + i + 16 * k);
      before[2].add(m[k]);
      before[3].add(v[k]);
      update_vector(c, hn::LoadU(d, gradient + i + 16 * k), p[k], m[k], v[k]);
      after[2].add(m[k]);
      after[3].add(v[k]);
      hn::StoreU(m[k], d, m_plane + i + 16 * k);
      hn::StoreU(v[k], d, v_plane + i + 16 * k);
    }
    // No NaN here: the experiment's gradients are finite.
    hn::Vec<HalfLine> new_hi[2], new_lo[2];
    for (int k = 0; k < 2; ++k) {
      const auto bits = hn::BitCast(bits32, p[k]);
      const auto rounded = hn::Add(bits, hn::Set(bits32, 0x8000));
      new_hi[k] = hn::TruncateTo(half, hn::ShiftRight<16>(rounded));
      new_lo[k] = hn::TruncateTo(half, bits);
    }
    const auto hi_line = hn::Combine(halves, new_hi[1], new_hi[0]);
    const auto lo_line = hn::Combine(halves, new_lo[1], new_lo[0]);
    after[0].add(hi_line);
    after[1].add(lo_line);
    hn::StoreU(hi_line, halves, hi_plane + i);
    hn::StoreU(lo_line, halves, planes.weight_lo + i);
  }
  for (int k = 0; k < 4; ++k) {
    before[k].store(sums.before[k]);
    after[k].store(sums.after[k]);
  }
}

#else

bool wide() { return false; }
void run(const UpdateConstants&, const UpdatePlanes&, std::size_t, std::size_t, PlaneSums&) {}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace {
HWY_EXPORT(wide);
HWY_EXPORT(run);
}  // namespace

bool can_hash_in_registers() { return HWY_DYNAMIC_DISPATCH(wide)(); }

void update_and_hash(const spillway::trainer::UpdateConstants& constants,
                     const spillway::trainer::UpdatePlanes& planes, std::size_t first,
                     std::size_t count, PlaneSums& sums) {
  HWY_DYNAMIC_DISPATCH(run)(constants, planes, first, count, sums);
}
#endif
