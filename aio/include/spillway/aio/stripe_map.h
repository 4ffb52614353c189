// StripeMap: which byte of a striped file lies where. Pure arithmetic, no I/O.
//
// The logical file is cut into stripes of `stripe_bytes`, dealt to the members in a pattern that
// repeats: member m has weights[m] places of it, spread as evenly as they can be. So a member of
// three times the speed gets three stripes of four, and the same weights give the same map on
// every machine. Immutable: any thread.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway::aio {

class SPILLWAY_API StripeMap {
 public:
  static constexpr std::size_t kMaxMembers = 64;
  static constexpr std::uint32_t kMaxPattern = 256;  // stripes after which the pattern repeats
  static constexpr std::uint32_t kMaxStripeBytes = 1u << 30;

  // kInvalid, in words, for: stripe_bytes no positive multiple of 4096 or above 1 GiB; no member
  // or more than 64; all weights 0, or their sum above 256. A member of weight 0 holds no stripe.
  static Result<StripeMap> create(std::uint32_t stripe_bytes, std::vector<std::uint32_t> weights);

  // The weights with the smallest sum that give at least 98% of what the members could do together
  // (256 at most); a member so slow that it would only delay the others gets 0. Speeds: any unit.
  // REQUIRES: 1 to 64 speeds, each finite and positive.
  static std::vector<std::uint32_t> weights_of(std::span<const double> speeds);

  std::uint32_t stripe_bytes() const noexcept { return stripe_bytes_; }
  const std::vector<std::uint32_t>& weights() const noexcept { return weights_; }
  std::size_t member_count() const noexcept { return weights_.size(); }

  // Bytes that follow each other in one member as in the logical file.
  struct Extent {
    std::uint32_t member = 0;
    std::uint64_t offset = 0;  // bytes from the start of the member's stripes
    std::uint64_t size_bytes = 0;
  };
  // The longest extent that starts at the logical `offset`, cut to `size_bytes` (> 0).
  Extent extent_at(std::uint64_t offset, std::uint64_t size_bytes) const;

  // Bytes of the member's stripes for a logical file of `size_bytes`, in whole stripes.
  std::uint64_t member_bytes(std::size_t member, std::uint64_t size_bytes) const;

 private:
  struct Slot {
    std::uint32_t member = 0;
    std::uint32_t rank = 0;  // places of this member before it in the pattern
  };
  StripeMap(std::uint32_t stripe_bytes, std::vector<std::uint32_t> weights);

  std::uint32_t stripe_bytes_;
  std::vector<std::uint32_t> weights_;
  std::vector<Slot> pattern_;
};

}  // namespace spillway::aio
