// A forked child can neither use nor harm a store, a tier, a stream or a lock of its parent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/cached_tier.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/saved_tiles.h>
#include <spillway/swapper/tile_stream.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <tuple>

#include "store_fixture.h"
#include "support/child.h"

namespace spillway::swapper {
namespace {

using testing::IsEmpty;

constexpr unsigned kLimit_s = 10;
constexpr std::uint64_t kElements = 5000;
const Layout kLayout({{"param", 4}, {"moment", 2}});

class ForkedStore : public testing::Test {
 protected:
  ForkedStore() : engine_(make_engine(aio::BackendKind::kAuto)) {
    auto pool = pinned_pool::Pool::create(
        {.buffer_bytes = kLayout.tile_bytes(kElements), .buffer_count = 3}, engine_.get());
    EXPECT_TRUE(pool) << pool.error().message();
    pool_ = std::move(*pool);
    auto store = TileStore::create(*engine_, kLayout, {kElements, kElements},
                                   {.directories = {directory_.path()}, .spare_fraction = 1.0});
    EXPECT_TRUE(store) << store.error().message();
    store_ = std::move(*store);
    for (TileId tile = 0; tile < 2; ++tile) {
      EXPECT_TRUE(ok(write_tile(*store_, tile, kLayout.all(), tile)));
    }
  }
  // What is wrong with the outcome of a call in the child; empty if nothing is.
  template <typename T>
  std::string wrong(const Result<T>& outcome, const std::string& what) const {
    if (outcome) return what + " succeeded";
    const std::string expected =
        "made in process " + std::to_string(parent_) + "; a forked child cannot use it";
    return outcome.error().detail == expected ? "" : what + ": " + outcome.error().message();
  }
  void expect_in_child(const std::function<std::string()>& body) {
    EXPECT_EQ(in_child(body, kLimit_s), "");
    for (TileId tile = 0; tile < 2; ++tile) {
      EXPECT_TRUE(ok(check_tile(*store_, tile, kLayout.all(), tile))) << "in the parent";
    }
  }

  Scratch directory_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::unique_ptr<TileStore> store_;
  const pid_t parent_ = ::getpid();
};

TEST_F(ForkedStore, TransfersFailAtOnce) {
  expect_in_child([&]() -> std::string {
    const std::size_t bytes = kLayout.tile_bytes(kElements);
    std::string problem = wrong(store_->read(0, kLayout.all(), heap_lease(bytes)).wait(), "a read");
    if (!problem.empty()) return problem;
    problem = wrong(store_->write(0, kLayout.all(), heap_lease(bytes)).wait(), "a write");
    if (!problem.empty()) return problem;
    problem = wrong(store_->keep_generation(0), "keep_generation");
    if (!problem.empty()) return problem;
    if (store_->range_checks(0, kLayout.all()) != nullptr) return "it has range checks";
    if (store_->keeps_generations(0)) return "it keeps generations";
    return wrong(store_->seal({true, true}), "seal");
  });
}

TEST_F(ForkedStore, KeptGenerationsStayAsTheyAre) {
  ASSERT_TRUE(store_->keep_generation(0));
  ASSERT_TRUE(store_->keep_generation(1));
  expect_in_child([&]() -> std::string {
    store_->drop_kept(0);
    store_->roll_back(1);
    return {};
  });
  store_->drop_kept(0);
  store_->roll_back(1);
}

TEST_F(ForkedStore, FreedAndSavedTilesAreTheParents) {
  expect_in_child([&]() -> std::string {
    store_->free(0);
    const std::string problem = wrong(save_tiles(*store_, directory_ / "saved"), "save_tiles");
    if (!problem.empty()) return problem;
    return std::filesystem::exists(directory_ / "saved") ? "something was saved" : "";
  });
  EXPECT_TRUE(ok(check_tile(*store_, 0, kLayout.all(), 0)));
  ASSERT_TRUE(ok(save_tiles(*store_, directory_ / "saved")));
  auto saved = SavedTiles::open(*engine_, directory_ / "saved");
  ASSERT_TRUE(saved) << saved.error().message();
  expect_in_child([&]() -> std::string {
    const std::size_t bytes = kLayout.tile_bytes(kElements);
    const std::string problem =
        wrong((*saved)->read(0, kLayout.all(), heap_lease(bytes)).wait(), "a read");
    saved->reset();
    return problem;
  });
  EXPECT_TRUE(ok(check_tile(**saved, 0, kLayout.all(), 0)));
}

// In flight at the fork: one of them is dropped there, both end in the parent.
TEST_F(ForkedStore, TransfersOfTheParentEndInTheChildAndGoOnInTheParent) {
  Transfer read = store_->read(0, kLayout.all(), pool_->acquire());
  Transfer dropped = store_->read(1, kLayout.all(), pool_->acquire());
  expect_in_child([&]() -> std::string {
    if (!read.done()) return "a transfer would be waited for";
    read.expedite();
    bool told = false;
    read.when_done([&] { told = true; });
    if (!told) return "nobody tells that it is done";
    read.cancel();
    { const Transfer over = std::move(dropped); }
    return wrong(read.wait(), "wait");
  });
  const auto lease = read.wait();
  ASSERT_TRUE(lease) << lease.error().message();
  EXPECT_TRUE(holds(lease->data(), kLayout, kElements, kLayout.all(), 0));
  EXPECT_TRUE(dropped.wait());
}

TEST_F(ForkedStore, PoolsLendNothingAndStreamsSayWhy) {
  pinned_pool::Lease out = pool_->acquire();
  expect_in_child([&]() -> std::string {
    if (pool_->acquire() || pool_->try_acquire()) return "a buffer was lent";
    if (pool_->acquire_until(std::chrono::steady_clock::now() + std::chrono::hours(1))) {
      return "a buffer was lent at last";
    }
    if (pool_->available() != 0) return "buffers are available";
    std::string problem = wrong(pool_->usable(), "the pool");
    if (!problem.empty()) return problem;
    problem = wrong(
        TileStream::for_each_tile(*store_, Access::kRead, *pool_, [](TileId, const PartView&) {}),
        "a stream");
    out = pinned_pool::Lease();
    pool_.reset();
    return problem;
  });
  EXPECT_EQ(pool_->available(), 2u);
  EXPECT_TRUE(pool_->usable());
}

TEST_F(ForkedStore, TiersInMemoryMoveNothing) {
  auto made = make_ram_tier(kLayout, {kElements});
  ASSERT_TRUE(made) << made.error().message();
  std::unique_ptr<Tier> ram = std::move(*made);
  ASSERT_TRUE(ok(write_tile(*ram, 0, kLayout.all(), 7)));
  expect_in_child([&]() -> std::string {
    const std::size_t bytes = kLayout.tile_bytes(kElements);
    std::string problem = wrong(ram->read(0, kLayout.all(), heap_lease(bytes)).wait(), "a read");
    if (!problem.empty()) return problem;
    problem = wrong(ram->write(0, kLayout.all(), heap_lease(bytes)).wait(), "a write");
    if (!problem.empty()) return problem;
    problem = wrong(ram->keep_generation(0), "keep_generation");
    ram.reset();
    return problem;
  });
  EXPECT_TRUE(ok(check_tile(*ram, 0, kLayout.all(), 7)));
}

TEST_F(ForkedStore, ACacheIsNotDemoted) {
  auto lower = make_ram_tier(kLayout, {kElements});
  ASSERT_TRUE(lower);
  auto cached = CachedTier::create(std::move(*lower), {true}, {.chunk_bytes = 1 << 20});
  ASSERT_TRUE(cached) << cached.error().message();
  expect_in_child([&] { return wrong((*cached)->demote(1, *pool_), "demote"); });
}

// Neither the files nor their list nor the lock go with the child's copies.
TEST_F(ForkedStore, TheEndOfAStoreRemovesAndUnlocksNothingOfTheParent) {
  const auto files = names_in(directory_.path());
  expect_in_child([&]() -> std::string {
    store_.reset();
    pool_.reset();
    engine_.reset();
    return {};
  });
  EXPECT_EQ(names_in(directory_.path()), files);
  EXPECT_FALSE(DirectoryLock::acquire(directory_.path()));
  store_.reset();
  EXPECT_THAT(names_in(directory_.path()), IsEmpty());
}

TEST(ForkedLock, ListsNothingAndStaysTheParents) {
  const Scratch directory;
  auto lock = DirectoryLock::acquire(directory.path());
  ASSERT_TRUE(lock) << lock.error().message();
  const std::vector<std::string> names{"spillway-a.seg"};
  ASSERT_TRUE((*lock)->will_create(names));
  std::ofstream(directory / names[0]) << "data";
  EXPECT_EQ(in_child(
                [&]() -> std::string {
                  const std::vector<std::string> more{"spillway-b.seg"};
                  if ((*lock)->will_create(more)) return "the child lists files";
                  (*lock)->removed(names);
                  lock->reset();
                  return DirectoryLock::acquire(directory.path()) ? "the child has the lock" : "";
                },
                kLimit_s),
            "");
  EXPECT_FALSE(DirectoryLock::acquire(directory.path()));
  EXPECT_EQ(names_in(directory.path()).size(), 2u);
  lock->reset();
  EXPECT_THAT(names_in(directory.path()), IsEmpty());
}

// Threads of the parent are inside of every lock at some fork.
TEST_F(ForkedStore, NeverWaitsForAThreadOfTheParent) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer's allocator may hang in a child of a process with threads";
#endif
  std::atomic<bool> over{false};
  std::thread busy([&] {
    while (!over) {
      EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 1)));
      std::ignore = pool_->acquire();
    }
  });
  for (int i = 0; i < 60; ++i) {
    const std::string problem = in_child(
        [&]() -> std::string {
          const std::size_t bytes = kLayout.tile_bytes(kElements);
          std::ignore = pool_->try_acquire();
          std::string wrong_read =
              wrong(store_->read(0, kLayout.all(), heap_lease(bytes)).wait(), "a read");
          store_.reset();
          pool_.reset();
          engine_.reset();
          return wrong_read;
        },
        kLimit_s);
    EXPECT_EQ(problem, "");
    if (!problem.empty()) break;
  }
  over = true;
  busy.join();
}

}  // namespace
}  // namespace spillway::swapper
