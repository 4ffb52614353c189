// The schedule through the C interface.
#include "c_fixture.h"

namespace spillway {
namespace {

class CSchedule : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(spillway_schedule_create(kUses, std::size(kUses), 5, &schedule_));
  }
  void TearDown() override { EXPECT_STATUS(SPILLWAY_OK, spillway_schedule_destroy(schedule_)); }

  static constexpr std::uint32_t kUses[] = {0, 1, 2, 1, 3};  // and never 4
  spillway_schedule* schedule_ = nullptr;
};

TEST_F(CSchedule, TellsTheNextUses) {
  const auto distance = [&](std::size_t position, std::uint32_t tile) {
    std::uint64_t uses = 99;
    EXPECT_STATUS(SPILLWAY_OK,
                  spillway_schedule_distance_to_next_use(schedule_, position, tile, &uses));
    return uses;
  };
  EXPECT_EQ(distance(0, 0), 0u);
  EXPECT_EQ(distance(2, 1), 1u);
  EXPECT_EQ(distance(4, 1), 2u);  // in the next step
  EXPECT_EQ(distance(4, 4), SPILLWAY_NEVER);

  std::uint32_t tile = 99;
  const std::uint32_t candidates[] = {1, 0, 3};
  EXPECT_STATUS(SPILLWAY_OK,
                spillway_schedule_farthest_next_use(schedule_, 2, candidates, 3, &tile));
  EXPECT_EQ(tile, 0u);
  EXPECT_STATUS(SPILLWAY_OK,
                spillway_schedule_farthest_next_use(schedule_, 2, candidates, 1, &tile));
  EXPECT_EQ(tile, 1u);

  std::uint32_t tiles[6] = {9, 9, 9, 9, 9, 9};
  std::size_t count = 0;
  EXPECT_STATUS(SPILLWAY_OK, spillway_schedule_upcoming(schedule_, 3, 6, tiles, &count));
  EXPECT_EQ(std::vector<std::uint32_t>(tiles, tiles + 6),
            (std::vector<std::uint32_t>{1, 3, 0, 2, 9, 9}));
  EXPECT_EQ(count, 4u);
  EXPECT_STATUS(SPILLWAY_OK, spillway_schedule_upcoming(schedule_, 0, 2, tiles, &count));
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(tiles[0], 0u);
  EXPECT_EQ(tiles[2], 0u) << "no more than there is room for";
}

TEST_F(CSchedule, ChoosesTheTilesToKeep) {
  const std::uint64_t elements[] = {10, 10, 10, 10, 10};
  std::uint8_t resident[6] = {9, 9, 9, 9, 9, 9};
  EXPECT_STATUS(SPILLWAY_OK, spillway_choose_resident(schedule_, elements, 5, 10, resident));
  EXPECT_EQ(std::vector<std::uint8_t>(resident, resident + 6),
            (std::vector<std::uint8_t>{0, 1, 0, 0, 0, 9}));
  EXPECT_STATUS(SPILLWAY_OK, spillway_choose_resident(schedule_, elements, 5, 1000, resident));
  EXPECT_EQ(std::vector<std::uint8_t>(resident, resident + 6),
            (std::vector<std::uint8_t>{1, 1, 1, 1, 0, 9}));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_choose_resident(schedule_, elements, 4, 10, resident));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_choose_resident(schedule_, elements, 6, 10, resident));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_choose_resident(schedule_, nullptr, 5, 10, resident));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_choose_resident(schedule_, elements, 5, 10, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_choose_resident(nullptr, elements, 5, 10, resident));
}

TEST_F(CSchedule, RefusesWhatDoesNotExist) {
  std::uint64_t distance = 0;
  EXPECT_STATUS(SPILLWAY_MISUSE,
                spillway_schedule_distance_to_next_use(schedule_, 5, 0, &distance));
  EXPECT_NE(last_detail().find("position 5 of a step of 5"), std::string::npos) << last_detail();
  EXPECT_STATUS(SPILLWAY_MISUSE,
                spillway_schedule_distance_to_next_use(schedule_, 0, 5, &distance));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_distance_to_next_use(schedule_, 0, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE,
                spillway_schedule_distance_to_next_use(nullptr, 0, 0, &distance));
  std::uint32_t tile = 0;
  const std::uint32_t bad[] = {0, 5};
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_farthest_next_use(schedule_, 0, bad, 2, &tile));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_farthest_next_use(schedule_, 0, bad, 0, &tile));
  EXPECT_STATUS(SPILLWAY_MISUSE,
                spillway_schedule_farthest_next_use(schedule_, 0, nullptr, 2, &tile));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_farthest_next_use(schedule_, 9, bad, 1, &tile));
  EXPECT_STATUS(SPILLWAY_MISUSE,
                spillway_schedule_farthest_next_use(schedule_, 0, bad, 1, nullptr));
  std::size_t count = 0;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_upcoming(schedule_, 5, 1, &tile, &count));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_upcoming(schedule_, 0, 1, nullptr, &count));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_upcoming(schedule_, 0, 1, &tile, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_schedule_upcoming(schedule_, 0, 0, nullptr, &count));

  spillway_schedule* schedule = nullptr;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_create(bad, 2, 5, &schedule));
  EXPECT_EQ(schedule, nullptr);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_create(bad, 0, 5, &schedule));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_create(nullptr, 2, 5, &schedule));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_create(bad, 2, UINT32_MAX, &schedule));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_schedule_create(bad, 2, 6, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_schedule_destroy(nullptr));
}

}  // namespace
}  // namespace spillway
