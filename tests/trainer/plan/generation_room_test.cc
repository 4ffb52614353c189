#include "trainer/plan/generation_room.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

namespace spillway::trainer {
namespace {

using ::testing::HasSubstr;

// Two stores of one filesystem are counted together, and so are all ranks.
TEST(GenerationRoom, IsFourTimesWhatAllStoresAndRanksTakeTogether) {
  const std::filesystem::path here = std::filesystem::temp_directory_path();
  const std::uint64_t quarter = std::filesystem::space(here).available / kRoomForGenerations;
  const auto lacking = [&](std::uint64_t bytes, std::uint32_t ranks) {
    return lacking_room(std::array{StoredBytes{here, bytes}, StoredBytes{here, bytes}}, ranks);
  };
  EXPECT_EQ(lacking(quarter / 3, 1), "");
  EXPECT_THAT(lacking(quarter / 3 * 2, 1), HasSubstr("less than 4 times the states'"));
  EXPECT_THAT(lacking(quarter / 3, 2), HasSubstr(here.string()));
  EXPECT_EQ(lacking(0, 1), "");
}

TEST(GenerationRoom, APathThatIsNotThereHasNone) {
  EXPECT_THAT(lacking_room(std::array{StoredBytes{"/nonexistent", 0}}, 1),
              HasSubstr("/nonexistent"));
}

}  // namespace
}  // namespace spillway::trainer
