// After start-up an I/O takes no heap memory: operator new is counted, on every thread.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include "support/scratch.h"

namespace {

std::atomic<std::uint64_t> allocations{0};

void* counted_allocation(std::size_t size_bytes, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const std::size_t whole = (size_bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, whole);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(std::size_t size_bytes) { return counted_allocation(size_bytes, 16); }
void* operator new(std::size_t size_bytes, std::align_val_t alignment) {
  return counted_allocation(size_bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace spillway::aio {
namespace {

constexpr std::size_t kRequestBytes = 256 << 10;
constexpr std::size_t kRequests = 16;

class AllocationTest : public ::testing::TestWithParam<BackendKind> {
 protected:
  void SetUp() override {
    auto file = File::create(scratch_ / "data", {.size_bytes = kRequests * kRequestBytes});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
    auto engine = Engine::create({.backend = GetParam(),
                                  .block_size_bytes = 64 << 10,
                                  .queue_depth = 8,
                                  .thread_count = 2,
                                  .measure_latency = true,
                                  .observer = {.ended = &count, .context = &observed_}});
    if (!engine) GTEST_SKIP() << engine.error().message();
    engine_ = std::move(*engine);
    engine_->register_file(*file_);
    for (std::size_t i = 0; i < kRequests; ++i) {
      buffers_.push_back(Buffer::allocate(kRequestBytes + 4096));
    }
    tickets_.resize(kRequests);
  }

  static void count(void* counter, const EndedOperation&) noexcept {
    ++*static_cast<std::atomic<std::uint64_t>*>(counter);
  }

  // Every buffer makes one trip, with a Ticket or a callback; `shift` unaligns file and memory.
  void trip(Direction direction, std::size_t shift, bool with_callback) {
    std::atomic<std::size_t> called{0};
    for (std::size_t i = 0; i < kRequests; ++i) {
      const Engine::Request request{
          .file = &*file_,
          .offset = i * kRequestBytes + shift,
          .size_bytes = kRequestBytes - 2 * shift,
          .buffer_offset = shift,
          .priority = i % 2 == 0 ? Priority::kUrgent : Priority::kNormal,
          .deadline = std::chrono::steady_clock::now() + std::chrono::hours(1)};
      if (!with_callback) {
        tickets_[i] = direction == Direction::kRead
                          ? engine_->read(request, std::move(buffers_[i]))
                          : engine_->write(request, std::move(buffers_[i]));
        continue;
      }
      auto give_back = [this, i, &called](Completion done) {
        if (!done.transferred) ++failures_;
        buffers_[i] = std::move(done.buffer);
        ++called;
      };
      if (direction == Direction::kRead) {
        engine_->read(request, std::move(buffers_[i]), give_back);
      } else {
        engine_->write(request, std::move(buffers_[i]), give_back);
      }
    }
    while (with_callback && called < kRequests) std::this_thread::yield();
    for (std::size_t i = 0; !with_callback && i < kRequests; ++i) {
      Completion done = tickets_[i].wait();
      if (!done.transferred) ++failures_;
      buffers_[i] = std::move(done.buffer);
    }
  }

  void all_kinds() {
    for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
      for (const std::size_t shift : {0, 100}) {
        trip(direction, shift, /*with_callback=*/false);
        trip(direction, shift, /*with_callback=*/true);
      }
    }
  }

  Scratch scratch_;
  std::atomic<std::uint64_t> observed_{0};
  std::optional<File> file_;
  std::unique_ptr<Engine> engine_;
  std::vector<Buffer> buffers_;
  std::vector<Ticket> tickets_;
  std::atomic<int> failures_{0};
};

TEST_P(AllocationTest, NoIoTakesHeapMemoryAfterTheFirst) {
  if (IsSkipped()) return;
  all_kinds();
  const std::uint64_t before = allocations;
  for (int i = 0; i < 20; ++i) all_kinds();
  EXPECT_EQ(allocations - before, 0u);
  EXPECT_EQ(failures_, 0);
  EXPECT_GE(observed_.load(), (*engine_).stats().read_operations);
  delete new int;
  EXPECT_EQ(allocations - before, 1u) << "the counter does not count";
}

INSTANTIATE_TEST_SUITE_P(Backends, AllocationTest,
                         ::testing::Values(BackendKind::kIoUring, BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == BackendKind::kIoUring ? "io_uring" : "threads";
                         });

}  // namespace
}  // namespace spillway::aio
