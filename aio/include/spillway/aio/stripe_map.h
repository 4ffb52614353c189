// StripeMap: maps the bytes of a striped file to its members. Pure arithmetic, no I/O.
//
// The logical file is cut into stripes of `stripe_bytes`, which go to the members in a repeating
// pattern. Member m has `weights[m]` places in the pattern, as evenly spread as possible: a member
// of three times the speed gets three stripes of four. The same weights give the same map on every
// machine. Immutable. Threads: any.
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

  // Makes a map. kInvalid, with the reason, if `stripe_bytes` is no positive multiple of 4096 or
  // above 1 GiB, if there are no members or more than 64, or if the weights sum to 0 or above 256.
  // A member of weight 0 holds no stripe.
  static Result<StripeMap> create(std::uint32_t stripe_bytes, std::vector<std::uint32_t> weights);

  // Returns the weights with the smallest sum (at most 256) that reach at least 98% of the summed
  // speed. A member that is too slow to help gets 0. `speeds` may have any unit.
  // REQUIRES: 1 to 64 speeds, each finite and positive.
  static std::vector<std::uint32_t> weights_of(std::span<const double> speeds);

  std::uint32_t stripe_bytes() const noexcept { return stripe_bytes_; }
  const std::vector<std::uint32_t>& weights() const noexcept { return weights_; }
  std::size_t member_count() const noexcept { return weights_.size(); }

  // A run of bytes that is contiguous both in one member and in the logical file.
  struct Extent {
    std::uint32_t member = 0;
    std::uint64_t offset = 0;  // bytes from the start of the member's stripes
    std::uint64_t size_bytes = 0;
  };
  // Returns the longest extent that starts at the logical `offset`, cut to `size_bytes` (> 0).
  Extent extent_at(std::uint64_t offset, std::uint64_t size_bytes) const;

  // Returns the bytes of whole stripes that `member` holds of a logical file of `size_bytes`.
  // REQUIRES: size_bytes < 2^63, so that no product wraps around.
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
