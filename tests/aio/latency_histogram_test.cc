#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <spillway/aio/latency_histogram.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "latency_counter.h"
#include "support/scratch.h"
#include "support/seed.h"

namespace spillway::aio {
namespace {

using std::chrono::nanoseconds;

TEST(LatencyHistogram, BucketsCoverEveryDurationWithoutGapOrOverlap) {
  for (std::size_t bucket = 0; bucket + 1 < LatencyHistogram::kBuckets; ++bucket) {
    const nanoseconds last = LatencyHistogram::upper_bound_of(bucket);
    EXPECT_EQ(LatencyHistogram::bucket_of(last), bucket);
    EXPECT_EQ(LatencyHistogram::bucket_of(last + nanoseconds(1)), bucket + 1);
  }
  EXPECT_EQ(LatencyHistogram::bucket_of(nanoseconds(-5)), 0u);
  EXPECT_EQ(LatencyHistogram::bucket_of(nanoseconds::max()), LatencyHistogram::kBuckets - 1);
}

TEST(LatencyHistogram, PercentilesAreThoseOfTheSortedDurationsToABucketsWidth) {
  std::mt19937_64 random(test_seed(5));
  std::vector<std::int64_t> all;
  LatencyHistogram one;
  LatencyHistogram other;
  for (int i = 0; i < 10'000; ++i) {
    all.push_back(
        static_cast<std::int64_t>(std::exp(std::uniform_real_distribution<>(2, 20)(random))));
    (i % 2 == 0 ? one : other).add(nanoseconds(all.back()));
  }
  one += other;
  std::sort(all.begin(), all.end());
  EXPECT_EQ(one.count(), all.size());
  EXPECT_EQ(one.max(), nanoseconds(all.back()));
  for (double quantile : {0.0, 0.01, 0.5, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::max(1.0, std::ceil(quantile * 10'000)));
    const auto exact = static_cast<double>(all[rank - 1]);
    const auto found = static_cast<double>(one.percentile(quantile).count());
    EXPECT_GE(found, exact);
    EXPECT_LE(found, exact * 17 / 16 + 1);
  }
  EXPECT_EQ(LatencyHistogram().percentile(0.5), nanoseconds(0));
  const double exact = std::accumulate(all.begin(), all.end(), 0.0) / 10'000;
  EXPECT_NEAR(static_cast<double>(one.mean().count()), exact, exact / 32 + 1);
  EXPECT_EQ(LatencyHistogram().mean(), nanoseconds(0));
  LatencyHistogram single;
  single.add(nanoseconds(32 + 3));  // shares its bucket with 34
  EXPECT_LE(single.mean(), single.max());
  EXPECT_GE(single.mean(), nanoseconds(34));
}

TEST(LatencyHistogram, AnEngineCountsEachOperationByItsDirection) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {.size_bytes = 1 << 20});
  ASSERT_TRUE(file);
  auto engine = Engine::create(
      {.block_size_bytes = 4096, .queue_depth = 4, .thread_count = 2, .measure_latency = true});
  ASSERT_TRUE(engine);
  auto done = (*engine)
                  ->write({.file = &*file, .size_bytes = 40 * 4096}, Buffer::allocate(40 * 4096))
                  .wait();
  ASSERT_TRUE(done.transferred);
  ASSERT_TRUE((*engine)
                  ->read({.file = &*file, .size_bytes = 30 * 4096}, std::move(done.buffer))
                  .wait()
                  .transferred);
  EXPECT_EQ((*engine)->latency(Direction::kWrite).count(), 40u);
  EXPECT_EQ((*engine)->latency(Direction::kRead).count(), 30u);
  const LatencyHistogram reads = (*engine)->latency(Direction::kRead);
  EXPECT_GT(reads.percentile(0.5), nanoseconds(100));
  EXPECT_LE(reads.percentile(0.5), reads.percentile(0.99));
  EXPECT_LE(reads.percentile(0.99), reads.max());
}

TEST(LatencyCounter, ItsSnapshotHasAllAndTheLongest) {
  LatencyCounter counter;
  for (const int us : {30, 700, 20}) counter.add(std::chrono::microseconds(us));
  const LatencyHistogram seen = counter.snapshot();
  EXPECT_EQ(seen.count(), 3u);
  EXPECT_EQ(seen.max(), std::chrono::microseconds(700));
  EXPECT_EQ(seen.percentile(1), std::chrono::microseconds(700));
}

}  // namespace
}  // namespace spillway::aio
