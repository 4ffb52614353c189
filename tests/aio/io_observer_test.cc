// What an observer is told: every operation once, with what it moved and when.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "support/scratch.h"
#include "support/simulator.h"

namespace spillway::aio {
namespace {

struct Observed {
  std::mutex mutex;
  std::vector<EndedOperation> operations;

  IoObserver observer() {
    const auto ended = [](void* context, const EndedOperation& operation) noexcept {
      auto* self = static_cast<Observed*>(context);
      const std::lock_guard lock(self->mutex);
      self->operations.push_back(operation);
    };
    return {.ended = ended, .context = this};
  }
};

TEST(IoObserverTest, EveryOperationOnceWithBytesPlaceAndTimes) {
  const Scratch scratch;
  constexpr std::uint64_t kBlock = 4096, kBlocks = 32;
  auto file = File::create(scratch / "data", {.size_bytes = kBlock * kBlocks});
  ASSERT_TRUE(file) << file.error().message();
  Observed observed;
  const auto before = std::chrono::steady_clock::now();
  auto engine = Engine::create({.block_size_bytes = kBlock,
                                .queue_depth = 4,
                                .thread_count = 2,
                                .observer = observed.observer()});
  ASSERT_TRUE(engine) << engine.error().message();
  for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
    const Engine::Request request{.file = &*file, .size_bytes = kBlock * kBlocks};
    Buffer buffer = Buffer::allocate(kBlock * kBlocks);
    auto ticket = direction == Direction::kRead ? (*engine)->read(request, std::move(buffer))
                                                : (*engine)->write(request, std::move(buffer));
    const auto moved = ticket.wait().transferred;
    ASSERT_TRUE(moved) << moved.error().message();
  }
  engine->reset();
  const auto after = std::chrono::steady_clock::now();
  std::map<std::pair<Direction, std::uint64_t>, std::uint64_t> bytes_at;
  for (const EndedOperation& operation : observed.operations) {
    bytes_at[{operation.direction, operation.offset}] += operation.size_bytes;
    EXPECT_LE(before, operation.submitted);
    EXPECT_LE(operation.submitted, operation.ended);
    EXPECT_LE(operation.ended, after);
    EXPECT_LT(operation.engine_thread, 2u);
  }
  ASSERT_EQ(bytes_at.size(), 2 * kBlocks);
  for (const auto& [place, bytes] : bytes_at) {
    EXPECT_EQ(bytes, kBlock);
    EXPECT_EQ(place.second % kBlock, 0u);
  }
}

TEST(IoObserverTest, AShortTransferAndAFailureAreOperationsToo) {
  const Scratch scratch;
  auto file = File::create(scratch / "data", {.size_bytes = 16384});
  ASSERT_TRUE(file) << file.error().message();
  Observed observed;
  const auto control = std::make_shared<SimulatorControl>();
  auto engine =
      Engine::create({.block_size_bytes = 16384, .queue_depth = 4, .observer = observed.observer()},
                     simulator_backend(control));
  ASSERT_TRUE(engine) << engine.error().message();
  control->plan({.kind = FaultKind::kShort, .keep_bytes = 4096});
  const Engine::Request request{.file = &*file, .size_bytes = 16384};
  auto done = (*engine)->read(request, Buffer::allocate(16384)).wait();
  ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  control->plan({.kind = FaultKind::kError, .errno_value = EIO});
  done = (*engine)->read(request, std::move(done.buffer)).wait();
  EXPECT_FALSE(done.transferred);
  engine->reset();
  ASSERT_EQ(observed.operations.size(), 3u);
  EXPECT_EQ(observed.operations[0].size_bytes, 4096u);
  EXPECT_EQ(observed.operations[0].offset, 0u);
  EXPECT_EQ(observed.operations[1].size_bytes, 12288u);
  EXPECT_EQ(observed.operations[1].offset, 4096u);
  EXPECT_EQ(observed.operations[2].size_bytes, 0u);
}

}  // namespace
}  // namespace spillway::aio
