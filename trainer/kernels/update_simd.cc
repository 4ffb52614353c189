// What the SIMD kernels of all optimizers share, by Google Highway: the choice of the kernel,
// hashes of planes with int8 states, the target's name. Compiled once per SIMD target of this file.
#include "trainer/kernels/optimizers/table.h"
#include "trainer/kernels/simd_targets.h"
#include "trainer/kernels/update_arithmetic.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/update_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

#include "trainer/kernels/line_hash-inl.h"

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

const char* simd_target() { return hwy::TargetName(HWY_TARGET); }

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void add_quantised(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                   UpdateHashes& hashes) {
  add_elements_reference(planes, first, count, hashes);
}

#else

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

#endif

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {
namespace {

SimdKernels kernels_of(const OptimizerFormat& format) {
  return with_optimizer(format.kind,
                        [&]<typename Optimizer>() { return Optimizer::simd_kernels(format); });
}

}  // namespace

HWY_EXPORT(simd_target);
HWY_EXPORT(add_quantised);

void update_run_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t first, std::uint64_t count) {
  kernels_of(planes.format).run(constants, planes, first, count);
}

void update_hashed_simd(const UpdateConstants& constants, const UpdatePlanes& planes,
                        std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                        UpdateHashes& after) {
  kernels_of(planes.format).run_hashed(constants, planes, first, count, before, after);
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
