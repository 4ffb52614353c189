// What a CompletionQueue promises: order, tags, its descriptor, and that nothing outlives it.
#include <gtest/gtest.h>
#include <poll.h>
#include <spillway/aio/completion_queue.h>
#include <spillway/aio/engine.h>
#include <spillway/aio/striped_file.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "support/gated_backend.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlock = 4096;

std::unique_ptr<CompletionQueue> make_queue(std::size_t capacity) {
  auto queue = CompletionQueue::create(capacity);
  EXPECT_TRUE(queue) << queue.error().message();
  return std::move(*queue);
}

bool readable(int fd) {
  pollfd polled{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&polled, 1, 0) == 1;
}

class CompletionQueueTest : public ::testing::Test {
 protected:
  CompletionQueueTest() {
    auto file = File::create(scratch_ / "data", {.size_bytes = 64 * kBlock});
    file_.emplace(std::move(*file));
  }
  void read(Engine& engine, std::uint64_t number, Callback callback) {
    engine.read({.file = &*file_, .offset = number * kBlock, .size_bytes = kBlock},
                Buffer::allocate(kBlock), std::move(callback));
  }
  std::unique_ptr<Engine> gated() {
    auto engine =
        Engine::create({.block_size_bytes = kBlock}, std::make_unique<GatedFactory>(gate_));
    EXPECT_TRUE(engine);
    return std::move(*engine);
  }

  Scratch scratch_;
  std::optional<File> file_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

TEST_F(CompletionQueueTest, TagsAndBuffersComeInTheOrderInWhichRequestsEnd) {
  const auto queue = make_queue(4);
  const auto first = gated();
  gate_ = std::make_shared<Gate>();
  const auto second = gated();
  const auto gate_of_second = gate_;
  read(*first, 0, queue->callback(70));
  read(*second, 1, queue->callback(71));
  EXPECT_FALSE(queue->try_take());
  EXPECT_FALSE(queue->wait(1ms));
  EXPECT_EQ(queue->expected(), 2u);
  gate_of_second->open = 1;
  const auto entry = queue->wait();
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->tag, 71u);
  EXPECT_EQ(entry->completion.transferred.value(), kBlock);
  EXPECT_EQ(entry->completion.buffer.capacity(), kBlock);
  EXPECT_EQ(queue->expected(), 1u);
  EXPECT_FALSE(queue->try_take());
}

TEST_F(CompletionQueueTest, ItsDescriptorIsReadableWhileThereIsSomethingToTake) {
  const auto queue = make_queue(4);
  const auto engine = gated();
  const int fd = queue->fd().value();
  EXPECT_EQ(queue->fd().value(), fd);
  read(*engine, 0, queue->callback(1));
  read(*engine, 1, queue->callback(2));
  EXPECT_FALSE(readable(fd));
  gate_->open = 2;
  pollfd polled{.fd = fd, .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&polled, 1, 60'000), 1);
  EXPECT_EQ(queue->wait()->tag, 1u);
  while (queue->expected() > 0 && !readable(fd)) std::this_thread::yield();
  EXPECT_EQ(queue->wait()->tag, 2u);
  EXPECT_FALSE(readable(fd));
}

TEST_F(CompletionQueueTest, ADescriptorMadeLateKnowsWhatWasThere) {
  const auto queue = make_queue(1);
  queue->callback(5)({.buffer = {}, .transferred = std::size_t{3}});
  EXPECT_TRUE(readable(queue->fd().value()));
  EXPECT_EQ(queue->try_take()->completion.transferred.value(), 3u);
  EXPECT_FALSE(readable(queue->fd().value()));
}

TEST_F(CompletionQueueTest, PlacesAreUsedAgainAndADroppedCallbackFreesItsOwn) {
  const auto queue = make_queue(2);
  for (std::uint64_t tag = 0; tag < 10; ++tag) {
    auto one = queue->callback(2 * tag);
    auto other = queue->callback(2 * tag + 1);
    EXPECT_EQ(queue->expected(), 2u);
    other({.buffer = {}, .transferred = std::size_t{0}});
    one = nullptr;
    EXPECT_EQ(queue->expected(), 1u);
    EXPECT_EQ(queue->try_take()->tag, 2 * tag + 1);
    EXPECT_EQ(queue->expected(), 0u);
  }
}

TEST_F(CompletionQueueTest, FailuresArriveToo) {
  const auto queue = make_queue(2);
  auto engine = Engine::create({});
  ASSERT_TRUE(engine);
  read(**engine, 64, queue->callback(9));
  const auto entry = queue->wait();
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->tag, 9u);
  ASSERT_FALSE(entry->completion.transferred);
  EXPECT_EQ(entry->completion.transferred.error().kind, ErrorKind::kShortTransfer);
}

TEST_F(CompletionQueueTest, ItEndsAfterItsRequests) {
  auto queue = make_queue(2);
  const auto engine = gated();
  static std::atomic<int> released;
  released = 0;
  std::vector<std::byte> memory(kBlock);
  engine->read({.file = &*file_, .size_bytes = kBlock},
               Buffer(
                   memory.data(), kBlock,
                   [](void*, std::byte*, std::size_t) noexcept { ++released; }, nullptr),
               queue->callback(0));
  std::atomic<bool> ended{false};
  std::thread destroyer([&] {
    queue.reset();
    ended = true;
  });
  ASSERT_TRUE(gate_->settled());
  EXPECT_FALSE(ended);
  gate_->open = 1;
  destroyer.join();
  EXPECT_EQ(released, 1);
}

TEST_F(CompletionQueueTest, TakesRequestsOfStripedFiles) {
  auto engine = Engine::create({});
  ASSERT_TRUE(engine);
  std::filesystem::create_directory(scratch_ / "a");
  std::filesystem::create_directory(scratch_ / "b");
  auto file = StripedFile::create(
      {engine->get()}, {.directories = {scratch_ / "a", scratch_ / "b"}, .name = "striped"},
      {.size_bytes = 1 << 20, .stripe_bytes = 65536, .speeds = {1, 1}});
  ASSERT_TRUE(file) << file.error().message();
  const auto queue = make_queue(1);
  file->write({.size_bytes = 1 << 20}, Buffer::allocate(1 << 20), queue->callback(3));
  const auto entry = queue->wait();
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->completion.transferred.value(), std::size_t{1} << 20);
}

// Several threads take what others have started; every tag comes once.
TEST_F(CompletionQueueTest, AnyThreadMayTake) {
  auto engine = Engine::create({});
  ASSERT_TRUE(engine);
  constexpr std::uint64_t kRequests = 2000;
  const auto queue = make_queue(kRequests);
  std::mutex mutex;
  std::multiset<std::uint64_t> tags;
  std::vector<std::thread> takers;
  for (int i = 0; i < 3; ++i) {
    takers.emplace_back([&] {
      for (;;) {
        const auto entry = queue->wait(10ms);
        const std::lock_guard lock(mutex);
        if (entry) tags.insert(entry->tag);
        if (tags.size() == kRequests) return;
      }
    });
  }
  for (std::uint64_t tag = 0; tag < kRequests; ++tag)
    read(**engine, tag % 64, queue->callback(tag));
  for (std::thread& taker : takers) taker.join();
  std::uint64_t next = 0;
  for (const std::uint64_t tag : tags) EXPECT_EQ(tag, next++);
}

TEST_F(CompletionQueueTest, MoreThanItHoldsIsAMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto queue = make_queue(1);
        auto one = queue->callback(0);
        auto two = queue->callback(1);
      },
      "the queue is full");
}

}  // namespace
}  // namespace spillway::aio
