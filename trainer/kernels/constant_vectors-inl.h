// Constants: an UpdateConstants, each of its values in every lane of a vector. Included by
// update_simd-inl.h, once for each target; no guard, as Highway wants it.
#include <hwy/highway.h>

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

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

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#endif
