// PlaneHashes: the BlockHashes of a tile's planes in registers, for the update that hashes what it
// loads and stores. Included by update_simd-inl.h, once for each target; no guard, as Highway wants
// it.
#include <hwy/highway.h>

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

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

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#endif
