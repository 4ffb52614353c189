#include <gtest/gtest.h>
#include <spillway/swapper/stream_buffers.h>

namespace spillway::swapper {
namespace {

constexpr std::size_t kMiB = 1 << 20;

TEST(StreamBuffers, FillTheQueueAndHaveThreeMore) {
  const aio::EngineOptions engine{
      .block_size_bytes = 1 << 20, .queue_depth = 32, .thread_count = 1};
  EXPECT_EQ(stream_buffers(engine, 10 * kMiB), 4u + 3u);
  EXPECT_EQ(stream_buffers(engine, 32 * kMiB), 1u + 3u);
  EXPECT_EQ(stream_buffers(engine, 1000 * kMiB), 1u + 3u);
  EXPECT_EQ(stream_buffers(engine, 1), 32u + 3u);
  aio::EngineOptions two = engine;
  two.thread_count = 2;
  EXPECT_EQ(stream_buffers(two, 10 * kMiB), 7u + 3u);
}

}  // namespace
}  // namespace spillway::swapper
