// No heap memory is taken per request of a striped file: a program of its own, for it replaces
// operator new.
#include <gtest/gtest.h>
#include <spillway/aio/striped_file.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "support/scratch.h"

namespace {
std::atomic<std::uint64_t> allocations{0};
}

// Not inlined: gcc would then take them for malloc and free that do not belong together.
[[gnu::noinline]] void* operator new(std::size_t size_bytes) {
  ++allocations;
  if (void* memory = std::malloc(size_bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace spillway::aio {
namespace {

TEST(StripedAllocation, RequestsTakeNoHeapMemory) {
  constexpr std::uint64_t kBytes = 8 << 20;
  Scratch scratch;
  StripedLocation where{.directories = {scratch / "a", scratch / "b"}, .name = "data"};
  for (const auto& directory : where.directories) std::filesystem::create_directory(directory);
  auto engine = Engine::create({.block_size_bytes = 16384, .queue_depth = 8});
  ASSERT_TRUE(engine);
  auto file = StripedFile::create({engine->get()}, where,
                                  {.size_bytes = kBytes, .stripe_bytes = 16384, .speeds = {1, 2}});
  ASSERT_TRUE(file) << file.error().message();
  Buffer buffer = Buffer::allocate(kBytes);
  const auto round_trip = [&] {
    for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
      StripedTicket ticket = direction == Direction::kWrite
                                 ? file->write({.size_bytes = kBytes}, std::move(buffer))
                                 : file->read({.size_bytes = kBytes}, std::move(buffer));
      Completion done = ticket.wait();
      ASSERT_TRUE(done.transferred);
      buffer = std::move(done.buffer);
    }
  };
  round_trip();
  const std::uint64_t before = allocations;
  for (int i = 0; i < 5; ++i) round_trip();
  EXPECT_EQ(allocations - before, 0u);
}

}  // namespace
}  // namespace spillway::aio
