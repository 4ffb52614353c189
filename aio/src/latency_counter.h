// LatencyCounter: a LatencyHistogram that one thread fills while others read it.
#pragma once

#include <spillway/aio/latency_histogram.h>
#include <array>
#include <atomic>

namespace spillway::aio {

class LatencyCounter {
 public:
  // Called by one thread only.
  void add(LatencyHistogram::Duration duration) noexcept {
    increase(counts_[LatencyHistogram::bucket_of(duration)]);
    if (duration.count() > max_.load(std::memory_order_relaxed)) {
      max_.store(duration.count(), std::memory_order_relaxed);
    }
  }

  LatencyHistogram snapshot() const noexcept {
    LatencyHistogram histogram;
    const LatencyHistogram::Duration longest(max_.load(std::memory_order_relaxed));
    for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      std::uint64_t count = counts_[bucket].load(std::memory_order_relaxed);
      if (count > 0) histogram.add(bucket, count, longest);
    }
    return histogram;
  }

 private:
  static void increase(std::atomic<std::uint64_t>& counter) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  std::array<std::atomic<std::uint64_t>, LatencyHistogram::kBuckets> counts_{};
  std::atomic<LatencyHistogram::Duration::rep> max_{0};
};

}  // namespace spillway::aio
