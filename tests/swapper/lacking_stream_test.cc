// Streams whose items need more buffers than are free, or none.
#include <gtest/gtest.h>
#include <spillway/swapper/tile_stream.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "manual_tier.h"

namespace spillway::swapper {
namespace {

// Counts how often the stream looks at an item: each time it tries to start one.
class CountedItems final : public TileStream::Source {
 public:
  explicit CountedItems(std::vector<Item> items) : items_(std::move(items)) {}
  std::optional<std::size_t> next(bool, const StreamStats&) override {
    if (next_ == items_.size()) return std::nullopt;
    return next_++;
  }
  const Item& item(std::size_t number) const override {
    ++looks_;
    return items_[number];
  }
  std::size_t named() const { return next_; }
  // False if that takes more than 10 s.
  bool looks_again(int times) const {
    const int seen = looks_;
    for (int i = 0; i < 10'000 && looks_ < seen + times; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return looks_ >= seen + times;
  }

 private:
  const std::vector<Item> items_;
  std::size_t next_ = 0;
  mutable std::atomic<int> looks_{0};
};

// One of the two buffers that its item needs is taken. The other must stay free for the holder of
// that one, who may need both.
TEST(StreamThatLacksABuffer, HoldsNone) {
  const Layout layout({{"a", 4}, {"b", 4}});
  ManualTier tier(layout, {1000});
  auto made = pinned_pool::Pool::create({.buffer_bytes = layout.tile_bytes(1000),
                                         .buffer_count = 2,
                                         .huge_pages = pinned_pool::Policy::kOff,
                                         .lock = pinned_pool::Policy::kOff});
  ASSERT_TRUE(made) << made.error().message();
  const auto pool = std::move(*made);
  CountedItems items({{{&tier, 0, {.first = 0, .count = 1}, Access::kReadWrite, pool.get()},
                       {&tier, 0, {.first = 1, .count = 1}, Access::kReadWrite, pool.get()}}});
  pinned_pool::Lease taken = pool->acquire();
  Result<StreamStats> stats;
  std::thread stream([&] {
    stats = TileStream::run(items, [](auto, std::span<const PartView> parts) {
      parts[1].values<std::uint32_t>(1).front() = 7;
      return Result<void>{};
    });
  });
  bool within_reach = true;
  for (int round = 0; within_reach && round < 5; ++round) {
    within_reach = items.looks_again(3);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    within_reach = within_reach && static_cast<bool>(pool->acquire_until(deadline));
  }
  taken = pinned_pool::Lease();
  stream.join();
  EXPECT_TRUE(within_reach);
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_EQ(*reinterpret_cast<std::uint32_t*>(tier.plane(0, 1)), 7u);
}

// Nothing else bounds how much of such a stream is held at a time.
TEST(StreamOfResidentItems, IsNamedAheadByABoundedNumber) {
  const Layout layout({{"a", 4}});
  ManualTier tier(layout, std::vector<std::uint64_t>(200, 1));
  std::vector<Item> parts;
  for (TileId tile = 0; tile < tier.tile_count(); ++tile) {
    tier.resident_tiles.insert(tile);
    parts.push_back({{&tier, tile, layout.all(), Access::kReadWrite, nullptr}});
  }
  CountedItems items(parts);
  std::size_t computed = 0;
  ASSERT_TRUE(TileStream::run(items, [&](std::size_t item, std::span<const PartView>) {
    EXPECT_LE(items.named(), item + 65);
    ++computed;
    return Result<void>{};
  }));
  EXPECT_EQ(computed, 200u);
}

}  // namespace
}  // namespace spillway::swapper
