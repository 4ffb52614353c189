#include <spillway/aio/check.h>
#include <spillway/aio/stripe_map.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

namespace spillway::aio {
namespace {

constexpr double kGoodEnough = 0.98;  // of what all members can do together

// `places` of a pattern shared out by speed, one after another to the member that would then be
// done first (greedy is optimal here: no other choice has an earlier last finish).
std::vector<std::uint32_t> shared_out(std::span<const double> speeds, std::uint32_t places) {
  std::vector<std::uint32_t> weights(speeds.size(), 0);
  for (std::uint32_t i = 0; i < places; ++i) {
    std::size_t best = 0;
    for (std::size_t m = 1; m < speeds.size(); ++m) {
      if ((weights[m] + 1) / speeds[m] < (weights[best] + 1) / speeds[best]) best = m;
    }
    ++weights[best];
  }
  return weights;
}

// Share of the members' joint speed that the weights allow: all wait for who is done last.
double efficiency(std::span<const double> speeds, const std::vector<std::uint32_t>& weights) {
  double slowest = 0;
  double places = 0;
  double sum = 0;
  for (std::size_t m = 0; m < speeds.size(); ++m) {
    slowest = std::max(slowest, weights[m] / speeds[m]);
    places += weights[m];
    sum += speeds[m];
  }
  return places / slowest / sum;
}

tl::unexpected<Error> invalid(std::string detail) {
  return make_error(ErrorKind::kInvalid, "stripe", "", std::move(detail));
}

}  // namespace

std::vector<std::uint32_t> StripeMap::weights_of(std::span<const double> speeds) {
  SPILLWAY_CHECK(!speeds.empty() && speeds.size() <= kMaxMembers, "1 to 64 members have a speed");
  for (const double speed : speeds) {
    SPILLWAY_CHECK(std::isfinite(speed) && speed > 0, "a speed is positive");
  }
  std::vector<std::uint32_t> best;
  for (std::uint32_t places = 1; places <= kMaxPattern; ++places) {
    std::vector<std::uint32_t> weights = shared_out(speeds, places);
    if (best.empty() || efficiency(speeds, weights) > efficiency(speeds, best)) {
      best = std::move(weights);
    }
    if (efficiency(speeds, best) >= kGoodEnough) break;
  }
  return best;
}

Result<StripeMap> StripeMap::create(std::uint32_t stripe_bytes,
                                    std::vector<std::uint32_t> weights) {
  if (stripe_bytes == 0 || stripe_bytes % 4096 != 0 || stripe_bytes > kMaxStripeBytes) {
    return invalid("stripe_bytes is " + std::to_string(stripe_bytes) +
                   ", must be a positive multiple of 4096, at most 1073741824");
  }
  if (weights.empty() || weights.size() > kMaxMembers) {
    return invalid(std::to_string(weights.size()) + " members, must be 1 to 64");
  }
  const auto sum = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
  if (sum == 0 || sum > kMaxPattern) {
    return invalid("the sum of the weights is " + std::to_string(sum) + ", must be 1 to 256");
  }
  return StripeMap(stripe_bytes, std::move(weights));
}

// Smooth weighted round robin, as nginx deals requests to servers
// (https://github.com/nginx/nginx/commit/52327e0627f49dbda1e8db695e63a4b0af4448b1): each turn every
// member gains its weight, the richest takes the place and pays the sum. Weights 5 1 1 give
// 0 0 1 0 2 0 0.
StripeMap::StripeMap(std::uint32_t stripe_bytes, std::vector<std::uint32_t> weights)
    : stripe_bytes_(stripe_bytes), weights_(std::move(weights)) {
  const auto sum = std::accumulate(weights_.begin(), weights_.end(), std::int64_t{0});
  std::vector<std::int64_t> credit(weights_.size(), 0);
  std::vector<std::uint32_t> taken(weights_.size(), 0);
  for (std::int64_t i = 0; i < sum; ++i) {
    for (std::size_t m = 0; m < credit.size(); ++m) credit[m] += weights_[m];
    const auto richest = std::max_element(credit.begin(), credit.end());
    const auto member = static_cast<std::uint32_t>(richest - credit.begin());
    *richest -= sum;
    pattern_.push_back({member, taken[member]++});
  }
}

StripeMap::Extent StripeMap::extent_at(std::uint64_t offset, std::uint64_t size_bytes) const {
  SPILLWAY_CHECK(size_bytes > 0, "an extent holds at least one byte");
  std::uint64_t stripe = offset / stripe_bytes_;
  const std::uint64_t inside = offset % stripe_bytes_;
  const Slot& slot = pattern_[stripe % pattern_.size()];
  const std::uint64_t row = stripe / pattern_.size() * weights_[slot.member] + slot.rank;
  const std::uint64_t start = row * stripe_bytes_ + inside;
  // Everything is on this member: there is nothing to cut.
  if (weights_[slot.member] == pattern_.size()) return {slot.member, start, size_bytes};
  std::uint64_t length = stripe_bytes_ - inside;
  while (length < size_bytes && pattern_[++stripe % pattern_.size()].member == slot.member) {
    length += stripe_bytes_;
  }
  return {slot.member, start, std::min(length, size_bytes)};
}

std::uint64_t StripeMap::member_bytes(std::size_t member, std::uint64_t size_bytes) const {
  SPILLWAY_CHECK(member < weights_.size(), "no such member");
  SPILLWAY_CHECK(size_bytes >> 63 == 0, "no file is of that many bytes");
  const std::uint64_t stripes = size_bytes / stripe_bytes_ + (size_bytes % stripe_bytes_ != 0);
  std::uint64_t mine = stripes / pattern_.size() * weights_[member];
  for (std::size_t i = 0; i < stripes % pattern_.size(); ++i) mine += pattern_[i].member == member;
  return mine * stripe_bytes_;
}

}  // namespace spillway::aio
