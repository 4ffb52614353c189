// A deadline that passed, and one that only an error names: which transfers a stream waits for.
#include <gtest/gtest.h>
#include <spillway/swapper/tile_stream.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "manual_tier.h"

namespace spillway::swapper {
namespace {

constexpr std::uint64_t kElements = 1000;
constexpr TileId kTiles = 10;
const Layout kLayout({{"a", 4}});

class StreamDeadline : public testing::Test {
 protected:
  static std::unique_ptr<pinned_pool::Pool> pool() {
    auto made = pinned_pool::Pool::create(
        {.buffer_bytes = kLayout.tile_bytes(kElements), .buffer_count = 6});
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
  }
  std::vector<Item> items_on(pinned_pool::Pool& pool, Access access) {
    std::vector<Item> items;
    for (TileId tile = 0; tile < kTiles; ++tile) {
      items.push_back({{.tier = &tier_,
                        .tile = tile,
                        .planes = kLayout.all(),
                        .access = access,
                        .pool = &pool}});
    }
    return items;
  }

  ManualTier tier_{kLayout, std::vector<std::uint64_t>(kTiles, kElements)};
};

TEST_F(StreamDeadline, ADeadlineOfTheComputeFunctionLeavesNothingInFlight) {
  const auto buffers = pool();
  const auto items = items_on(*buffers, Access::kReadWrite);
  const auto run = TileStream::run(items, [&](std::size_t item, auto parts) -> Result<void> {
    if (item < 3) {
      *parts[0].plane(0) = std::byte{100};
      return {};
    }
    EXPECT_GT(tier_.in_flight, 0);
    return make_error(ErrorKind::kDeadline, "compute", "", "of its own");
  });
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().detail, "of its own");
  EXPECT_EQ(tier_.abandoned, 0);
  EXPECT_EQ(tier_.in_flight, 0);
  for (const TileId tile : {0, 1, 2}) EXPECT_EQ(*tier_.plane(tile, 0), std::byte{100});
}

// A device that says ETIMEDOUT has ended: the next one is waited for.
TEST_F(StreamDeadline, ATransferThatFailedWithADeadlineIsNoneThatOverran) {
  for (const bool ended : {true, false}) {
    tier_.tells_when_it_ended = ended;
    tier_.abandoned = 0;
    tier_.on_start = [](const std::string& what) -> std::optional<Error> {
      if (what != "read 2") return std::nullopt;
      Error error;
      error.kind = ErrorKind::kDeadline;
      return error;
    };
    const auto buffers = pool();
    const auto items = items_on(*buffers, Access::kRead);
    const auto run = TileStream::run(items, [](auto, auto) { return Result<void>{}; });
    ASSERT_FALSE(run);
    EXPECT_EQ(run.error().kind, ErrorKind::kDeadline);
    EXPECT_EQ(tier_.abandoned > 0, !ended);
    EXPECT_EQ(tier_.in_flight, 0);
  }
}

}  // namespace
}  // namespace spillway::swapper
