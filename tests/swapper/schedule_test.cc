#include <gtest/gtest.h>
#include <spillway/swapper/schedule.h>

#include <algorithm>
#include <list>
#include <numeric>
#include <random>

#include "support/seed.h"

namespace spillway::swapper {
namespace {

std::vector<TileId> cyclic(std::uint32_t tiles) {
  std::vector<TileId> uses(tiles);
  std::iota(uses.begin(), uses.end(), TileId{0});
  return uses;
}

// Forward, then backward: the order of a training step.
std::vector<TileId> forward_backward(std::uint32_t tiles) {
  std::vector<TileId> uses = cyclic(tiles);
  uses.insert(uses.end(), uses.rbegin(), uses.rend());
  return uses;
}

// Misses per step of a cache that fetches on a miss and makes room as `victim` says, once warm.
template <typename Victim>
std::size_t misses_per_step(std::span<const TileId> uses, std::size_t capacity, Victim victim) {
  std::list<TileId> cached;  // least recently used first
  std::size_t misses = 0;
  constexpr int kSteps = 40;
  for (int step = 0; step < kSteps; ++step) {
    if (step == kSteps / 2) misses = 0;
    for (std::size_t position = 0; position < uses.size(); ++position) {
      const TileId tile = uses[position];
      const auto found = std::ranges::find(cached, tile);
      if (found != cached.end()) {
        cached.erase(found);
      } else {
        ++misses;
        if (cached.size() == capacity) cached.remove(victim(position, cached));
      }
      cached.push_back(tile);
    }
  }
  return misses / (kSteps / 2);
}

TileId farthest(const Schedule& schedule, std::size_t position, const std::list<TileId>& cached) {
  const std::vector<TileId> candidates(cached.begin(), cached.end());
  return schedule.farthest_next_use((position + 1) % schedule.uses().size(), candidates);
}

TEST(Schedule, DistanceIsThatOfAWalkForward) {
  std::mt19937 random(test_seed(1));
  for (int round = 0; round < 200; ++round) {
    const std::uint32_t tiles = 1 + random() % 6;
    std::vector<TileId> uses(1 + random() % 12);
    for (TileId& tile : uses) tile = random() % tiles;
    const Schedule schedule(uses, tiles);
    for (std::size_t position = 0; position < uses.size(); ++position) {
      for (TileId tile = 0; tile < tiles; ++tile) {
        std::uint64_t walked = 0;
        while (walked < uses.size() && uses[(position + walked) % uses.size()] != tile) ++walked;
        if (walked == uses.size()) walked = Schedule::kNever;
        EXPECT_EQ(schedule.distance_to_next_use(position, tile), walked);
      }
    }
  }
}

TEST(Schedule, FarthestNextUseSavesTheCachedShareOfACyclicScanWhereLruSavesNothing) {
  constexpr std::uint32_t kTiles = 20;
  const std::vector<TileId> uses = cyclic(kTiles);
  const Schedule schedule(uses, kTiles);
  for (std::size_t capacity : {1, 5, 10, 19}) {
    const auto belady = [&](std::size_t position, const std::list<TileId>& cached) {
      return farthest(schedule, position, cached);
    };
    const auto lru = [](std::size_t, const std::list<TileId>& cached) { return cached.front(); };
    EXPECT_EQ(misses_per_step(uses, capacity, lru), kTiles);
    // A cache that must take in every tile it fetches has one place in flux: in the long run
    // (capacity - 1) / (tiles - 1) of the uses hit.
    const double hits = kTiles - double(misses_per_step(uses, capacity, belady));
    EXPECT_NEAR(hits / kTiles, double(capacity - 1) / (kTiles - 1), 1.0 / kTiles);
  }
}

// The fewest misses possible, by trying every victim at every miss.
std::size_t fewest_misses(const std::vector<TileId>& uses, std::size_t position,
                          const std::vector<TileId>& cached, std::size_t capacity) {
  if (position == uses.size()) return 0;
  const TileId tile = uses[position];
  if (std::ranges::find(cached, tile) != cached.end()) {
    return fewest_misses(uses, position + 1, cached, capacity);
  }
  if (cached.size() < capacity) {
    std::vector<TileId> more = cached;
    more.push_back(tile);
    return 1 + fewest_misses(uses, position + 1, more, capacity);
  }
  std::size_t best = ~std::size_t{0};
  for (std::size_t victim = 0; victim < cached.size(); ++victim) {
    std::vector<TileId> next = cached;
    next[victim] = tile;
    best = std::min(best, 1 + fewest_misses(uses, position + 1, next, capacity));
  }
  return best;
}

TEST(Schedule, EvictingTheFarthestIsAsGoodAsEveryOtherWayTried) {
  std::mt19937 random(test_seed(1));
  for (int round = 0; round < 60; ++round) {
    const std::uint32_t tiles = 3 + random() % 3;
    std::vector<TileId> step(4 + random() % 3);
    for (TileId& tile : step) tile = random() % tiles;
    const Schedule schedule(step, tiles);
    std::vector<TileId> uses = step;  // two steps are walked, a third is known to the schedule
    uses.insert(uses.end(), step.begin(), step.end());
    const std::size_t capacity = 2;
    std::list<TileId> cached;
    std::size_t misses = 0;
    for (std::size_t position = 0; position < uses.size(); ++position) {
      if (std::ranges::find(cached, uses[position]) != cached.end()) continue;
      ++misses;
      if (cached.size() == capacity) {
        cached.remove(farthest(schedule, position % step.size(), cached));
      }
      cached.push_back(uses[position]);
    }
    // The finite walk may end better for the brute force by at most what is cached at its end.
    const std::size_t best = fewest_misses(uses, 0, {}, capacity);
    EXPECT_GE(misses, best);
    EXPECT_LE(misses, best + capacity - 1);
  }
}

TEST(Schedule, UpcomingIsDistinctAndGoesOnInTheNextStep) {
  const Schedule schedule({0, 1, 2, 2, 1, 0}, 4);
  EXPECT_EQ(schedule.upcoming(3, 2), (std::vector<TileId>{2, 1}));
  EXPECT_EQ(schedule.upcoming(4, 3), (std::vector<TileId>{1, 0, 2}));
  EXPECT_EQ(schedule.upcoming(0, 9), (std::vector<TileId>{0, 1, 2}));
  EXPECT_EQ(schedule.distance_to_next_use(0, 3), Schedule::kNever);
  const std::vector<TileId> candidates{0, 3, 2};
  EXPECT_EQ(schedule.farthest_next_use(1, candidates), 3u);
}

TEST(ChooseResident, SavesExactlyTheCachedShare) {
  constexpr std::uint32_t kTiles = 40;
  const std::vector<std::uint64_t> elements(kTiles, 1000);
  for (const auto& uses : {cyclic(kTiles), forward_backward(kTiles)}) {
    const Schedule schedule(uses, kTiles);
    for (const std::uint64_t held : {0, 1, 10, 20, 39, 40}) {
      const std::vector<bool> resident = choose_resident(schedule, elements, held * 1000 + 999);
      const auto moved = std::ranges::count_if(uses, [&](TileId tile) { return !resident[tile]; });
      EXPECT_EQ(std::uint64_t(moved) * kTiles, uses.size() * (kTiles - held));
    }
  }
}

// Elements moved per step when these tiles are held.
std::uint64_t moved(const std::vector<TileId>& uses, const std::vector<std::uint64_t>& elements,
                    const std::vector<bool>& resident) {
  std::uint64_t sum = 0;
  for (const TileId tile : uses) sum += resident[tile] ? 0 : elements[tile];
  return sum;
}

TEST(ChooseResident, NoOtherSetOfEqualTilesSavesMore) {
  std::mt19937 random(test_seed(1));
  for (int round = 0; round < 200; ++round) {
    constexpr std::uint32_t kTiles = 7;
    std::vector<TileId> uses(random() % 20);
    for (TileId& tile : uses) tile = random() % kTiles;
    const std::vector<std::uint64_t> elements(kTiles, 10);
    const std::uint64_t capacity = random() % 80;
    const std::vector<bool> chosen = choose_resident(Schedule(uses, kTiles), elements, capacity);
    EXPECT_LE(std::ranges::count(chosen, true) * 10, std::int64_t(capacity));
    std::uint64_t best = ~std::uint64_t{0};
    for (unsigned set = 0; set < (1u << kTiles); ++set) {
      std::vector<bool> resident(kTiles);
      for (TileId tile = 0; tile < kTiles; ++tile) resident[tile] = (set >> tile & 1) != 0;
      if (std::uint64_t(std::ranges::count(resident, true)) * 10 > capacity) continue;
      best = std::min(best, moved(uses, elements, resident));
    }
    EXPECT_EQ(moved(uses, elements, chosen), best);
  }
}

// Wherever the step stands, the drive has the same share of the tiles before it.
TEST(ChooseResident, SpreadsTheResidentTilesOverTheStep) {
  constexpr std::uint32_t kTiles = 60;
  const std::vector<std::uint64_t> elements(kTiles, 1000);
  for (const std::uint64_t held : {15, 20, 30, 45, 54}) {
    const std::vector<bool> resident =
        choose_resident(Schedule(cyclic(kTiles), kTiles), elements, held * 1000);
    double before = 0;
    for (std::uint32_t tile = 0; tile < kTiles; ++tile) {
      before += resident[tile] ? 1 : 0;
      EXPECT_NEAR(before, double(held) * (tile + 1) / kTiles, 1.0) << held << " held";
    }
    EXPECT_EQ(before, double(held));
  }
}

TEST(ChooseResident, TailsFillWhatLargeTilesLeave) {
  const std::vector<std::uint64_t> elements{100, 30, 100, 30, 100, 30};
  const Schedule schedule(cyclic(6), 6);
  const std::vector<bool> chosen = choose_resident(schedule, elements, 260);
  std::uint64_t held = 0;
  for (std::size_t tile = 0; tile < 6; ++tile) held += chosen[tile] ? elements[tile] : 0;
  EXPECT_EQ(held, 260u);
  EXPECT_EQ(choose_resident(schedule, elements, 0), std::vector<bool>(6));
  EXPECT_EQ(choose_resident(Schedule({2, 2, 0}, 6), elements, 1000),
            (std::vector<bool>{true, false, true, false, false, false}));
}

TEST(ScheduleDeathTest, ACallersMistakesAreCaught) {
  const Schedule schedule({0, 1}, 2);
  EXPECT_DEATH(Schedule({0, 2}, 2), "does not exist");
  EXPECT_DEATH((void)schedule.distance_to_next_use(2, 0), "within the step");
  EXPECT_DEATH((void)schedule.distance_to_next_use(0, 2), "no such tile");
  EXPECT_DEATH((void)schedule.farthest_next_use(0, {}), "nothing to choose");
  EXPECT_DEATH((void)schedule.upcoming(2, 1), "within the step");
  const std::vector<std::uint64_t> too_few{100};
  EXPECT_DEATH((void)choose_resident(schedule, too_few, 100), "has no size");
}

}  // namespace
}  // namespace spillway::swapper
