// Row 19 of the fault list: the Nth allocation of a start-up fails, for every N until a run has no
// Nth. Each is an error that says so; nothing leaks, nothing hangs, and the next start works.
//
// This program's operator new counts, and fails on demand, on every thread.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/tile_store.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>

#include "support/child.h"
#include "support/scratch.h"
#include "swapper/names_in.h"

namespace {

std::atomic<std::int64_t> fails_in{0};  // allocations until the one that fails; 0 = none does
std::atomic<std::int64_t> held{0};      // allocated and not given back

void* allocate(std::size_t size_bytes, std::size_t alignment) {
  if (fails_in.load() > 0 && fails_in.fetch_sub(1) == 1) throw std::bad_alloc();
  ++held;
  std::size_t rounded = (std::max<std::size_t>(size_bytes, 1) + alignment - 1) / alignment;
  return std::aligned_alloc(alignment, rounded * alignment);
}

void give_back(void* memory) noexcept {
  if (memory != nullptr) --held;
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new[](std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }

namespace spillway {
namespace {

std::int64_t nth_allocation = 0;  // the one that fails from arm() on; 0 = none

// Around the call itself: before it the arguments are made, behind it the answer is looked at.
void arm() { fails_in = nth_allocation; }
// Whether the allocation was come to, and failed.
bool disarm() { return fails_in.exchange(0) <= 0; }

using Start = std::function<Result<void>(bool& struck)>;

void fail_each_allocation(const Start& start) {
  nth_allocation = 0;
  bool struck = true;
  ASSERT_TRUE(start(struck)) << "what is made once for the process is made here";
  struck = true;
  for (std::int64_t nth = 1; struck; ++nth) {
    ASSERT_LT(nth, 5000);
    SCOPED_TRACE("allocation " + std::to_string(nth));
    const std::int64_t during = held;
    nth_allocation = nth;
    auto started = start(struck);
    // Some are made up for on the way (a name for a message): then the start is whole.
    if (!started) {
      EXPECT_TRUE(struck);
      EXPECT_EQ(started.error().kind, ErrorKind::kNoMemory) << started.error().message();
      EXPECT_NE(started.error().operation, "");
    }
    started = {};
    EXPECT_EQ(held, during) << "not given back";
  }
}

Result<void> outcome(bool made, const Error* error) {
  if (made) return {};
  return tl::unexpected(*error);
}

TEST(NthAllocation, OfAnEngineOnEveryBackend) {
  for (aio::BackendKind kind : {aio::BackendKind::kIoUring, aio::BackendKind::kThreadPool}) {
    const aio::EngineOptions options{.backend = kind, .queue_depth = 3, .thread_count = 2};
    if (!aio::Engine::create(options)) continue;  // a machine without io_uring
    fail_each_allocation([&](bool& struck) {
      arm();
      auto engine = aio::Engine::create(options);
      struck = disarm();
      return outcome(engine.has_value(), engine ? nullptr : &engine.error());
    });
  }
}

TEST(NthAllocation, OfAPool) {
  auto engine = aio::Engine::create({.queue_depth = 2});
  ASSERT_TRUE(engine) << engine.error().message();
  fail_each_allocation([&](bool& struck) {
    const pinned_pool::PoolOptions options{.buffer_bytes = 4096, .buffer_count = 8};
    arm();
    auto pool = pinned_pool::Pool::create(options);
    struck = disarm();
    return outcome(pool.has_value(), pool ? nullptr : &pool.error());
  });
}

TEST(NthAllocation, OfATileStoreWhichLeavesNoFile) {
  auto engine = aio::Engine::create({.queue_depth = 2});
  ASSERT_TRUE(engine) << engine.error().message();
  const Scratch scratch;
  const swapper::Layout layout({{"a", 2}, {"b", 4}});
  fail_each_allocation([&](bool& struck) {
    std::vector<std::uint64_t> elements{1000, 2000, 3000};
    const swapper::TileStoreOptions options{.directories = {scratch.path()}};
    arm();
    auto store = swapper::TileStore::create(**engine, layout, std::move(elements), options);
    struck = disarm();
    return outcome(store.has_value(), store ? nullptr : &store.error());
  });
  EXPECT_TRUE(swapper::names_in(scratch.path()).empty());
}

// The address space ends: a mapping, or a thread's stack, cannot be had.
std::string under_address_limit(const std::function<std::string()>& body) {
  return in_child([&]() -> std::string {
    const rlimit limit{.rlim_cur = 256 << 20, .rlim_max = 256 << 20};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) return "setrlimit failed";
    return body();
  });
}

TEST(AddressSpace, APoolThatDoesNotFitIsNamed) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more address space than any limit leaves";
#endif
  EXPECT_EQ(under_address_limit([]() -> std::string {
              auto pool = pinned_pool::Pool::create({.buffer_bytes = 512 << 20,
                                                     .buffer_count = 1,
                                                     .huge_pages = pinned_pool::Policy::kOff,
                                                     .lock = pinned_pool::Policy::kOff});
              if (pool) return "512 MiB in a space of 256";
              return pool.error().kind == ErrorKind::kNoMemory ? "" : pool.error().message();
            }),
            "");
}

TEST(AddressSpace, AnEngineWhoseThreadsDoNotFitIsNamed) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more address space than any limit leaves";
#endif
  for (auto kind : {aio::BackendKind::kIoUring, aio::BackendKind::kThreadPool}) {
    EXPECT_EQ(under_address_limit([kind]() -> std::string {
                auto engine = aio::Engine::create({.backend = kind, .thread_count = 64});
                if (engine) return "the stacks of 64 threads in 256 MiB";
                return engine.error().operation.empty() ? "nothing named" : "";
              }),
              "");
  }
}

}  // namespace
}  // namespace spillway
