// LineHash: a swapper::BlockHash in registers, for loops that have a plane's lines at hand.
// Included by each kernel after Highway, once for each target; no guard, as Highway wants it.
//
// The lines are taken from memory, just loaded or just stored: an AES round takes its operand from
// there for nothing, and the CPU forwards what was stored.
#include <hwy/highway.h>

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

class LineHash {
 public:
  explicit LineHash(const swapper::BlockHash& hash) {
    for (std::size_t i = 0; i < kVectors; ++i) {
      states_[i] = hwy::HWY_NAMESPACE::LoadU(Bytes(), hash.lanes.data() + i * kVectorBytes);
    }
  }
  void store(swapper::BlockHash& hash) const {
    for (std::size_t i = 0; i < kVectors; ++i) {
      hwy::HWY_NAMESPACE::StoreU(states_[i], Bytes(), hash.lanes.data() + i * kVectorBytes);
    }
  }

  template <std::size_t kBytes>
  HWY_INLINE void add(const void* lines) {
    static_assert(kBytes % swapper::BlockHash::kLineBytes == 0, "whole lines");
    const auto* from = static_cast<const std::uint8_t*>(lines);
    for (std::size_t i = 0; i < kBytes / kVectorBytes; ++i) {
      auto& state = states_[i % kVectors];
      const auto bytes = hwy::HWY_NAMESPACE::LoadU(Bytes(), from + i * kVectorBytes);
      state = hwy::HWY_NAMESPACE::AESRound(state, bytes);
    }
  }

 private:
// One instruction for the four lanes, where there is one.
#if HWY_TARGET == HWY_AVX3_DL
  using Bytes = hwy::HWY_NAMESPACE::Full512<std::uint8_t>;
#else
  using Bytes = hwy::HWY_NAMESPACE::Full128<std::uint8_t>;
#endif
  static constexpr std::size_t kVectorBytes = hwy::HWY_NAMESPACE::MaxLanes(Bytes());
  static constexpr std::size_t kVectors = swapper::BlockHash::kLineBytes / kVectorBytes;
  hwy::HWY_NAMESPACE::Vec<Bytes> states_[kVectors];
};

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#endif
