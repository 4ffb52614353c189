// LatencyHistogram: counts durations of operations in buckets of at most 1/16 (6.25%) width.
//
// A value type of fixed size, without heap memory. An Engine with `measure_latency` fills one for
// each direction. Threads: one at a time.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace spillway::aio {

class LatencyHistogram {
 public:
  using Duration = std::chrono::nanoseconds;

  // Durations below 16 ns have a bucket each; above, each power of two is cut into 16. The last
  // bucket takes everything from 2^40 ns (18 minutes) on.
  static constexpr unsigned kSteps = 16;
  static constexpr unsigned kPowers = 37;  // 2^4 to 2^40
  static constexpr std::size_t kBuckets = kSteps * kPowers;

  // Returns the bucket of a duration; a negative one counts as 0.
  static std::size_t bucket_of(Duration duration) noexcept {
    auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
    if (ns < kSteps) return static_cast<std::size_t>(ns);
    unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 5;  // leaves 16 to 31
    std::size_t bucket = (std::size_t{shift} << 4) + (ns >> shift);
    return std::min(bucket, kBuckets - 1);
  }
  // Returns the longest duration of the bucket.
  static Duration upper_bound_of(std::size_t bucket) noexcept {
    if (bucket < kSteps) return Duration(bucket);
    std::size_t shift = (bucket >> 4) - 1;
    std::uint64_t next = (std::uint64_t{kSteps} + (bucket & 15) + 1) << shift;
    return Duration(static_cast<std::int64_t>(next - 1));
  }

  // Counts one operation.
  void add(Duration duration) noexcept {
    add(bucket_of(duration), 1);
    max_ = std::max(max_, duration);
  }
  // Counts `count` operations of one bucket; `longest` is the longest of the durations counted.
  void add(std::size_t bucket, std::uint64_t count, Duration longest = Duration(0)) noexcept {
    counts_[bucket] += count;
    count_ += count;
    max_ = std::max(max_, longest);
  }

  std::uint64_t count() const noexcept { return count_; }
  Duration max() const noexcept { return max_; }
  // Returns the mean duration, to half the width of a bucket. 0 if nothing was counted.
  Duration mean() const noexcept {
    double sum = 0;  // of each bucket's middle
    std::int64_t shortest = 0;
    for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
      const std::int64_t longest = upper_bound_of(bucket).count();
      sum += double(counts_[bucket]) * (double(shortest) + double(longest)) / 2;
      shortest = longest + 1;
    }
    const double mean = count_ == 0 ? 0 : sum / double(count_);
    return std::min(Duration(static_cast<std::int64_t>(mean)), max_);
  }
  // Returns the duration that a share `quantile` (0 to 1) of the operations did not exceed, to the
  // width of a bucket. 0 if nothing was counted.
  Duration percentile(double quantile) const noexcept {
    auto wanted = static_cast<std::uint64_t>(std::ceil(quantile * static_cast<double>(count_)));
    wanted = std::clamp<std::uint64_t>(wanted, 1, std::max<std::uint64_t>(count_, 1));
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
      seen += counts_[bucket];
      if (seen >= wanted) return std::min(upper_bound_of(bucket), max_);
    }
    return max_;
  }

  // Adds the counts of `other`.
  LatencyHistogram& operator+=(const LatencyHistogram& other) noexcept {
    for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
    return *this;
  }

 private:
  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t count_ = 0;
  Duration max_{0};
};

}  // namespace spillway::aio
