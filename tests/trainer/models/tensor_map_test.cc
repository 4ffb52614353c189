// Slices cover a tensor exactly once, or the map is refused by the place that is wrong.
#include <spillway/trainer/tensor_map.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway::trainer {
namespace {

using ::testing::HasSubstr;

TensorMap map_of(std::vector<TensorSlice> slices) {
  TensorMap map;
  map.slices = std::move(slices);
  return map;
}

std::string problem(std::vector<TensorSlice> slices) {
  const auto covered = check_coverage(map_of(std::move(slices)), "x");
  return covered ? "covered" : covered.error().detail;
}

TEST(TensorMapTest, SlicesMakeUpATensor) {
  const TensorMap map = map_of({
      {.parameter = "q", .tensor = "qkv", .shape = {4, 6}},
      {.parameter = "b", .tensor = "bias", .shape = {4}},
      {.parameter = "k", .tensor = "qkv", .row0 = 4, .shape = {6, 2}, .transposed = true},
      {.parameter = "c", .tensor = "bias", .row0 = 4, .shape = {3}},
      {.parameter = "x", .tensor = "cube", .shape = {2, 3, 5}},
      {.parameter = "t", .tensor = "turned", .shape = {3, 5}, .transposed = true},
  });
  EXPECT_TRUE(check_coverage(map, "x"));
  const auto tensors = mapped_tensors(map);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].name, "qkv");
  EXPECT_EQ(tensors[0].slices.size(), 2u);
  EXPECT_EQ(tensors[0].shape, (std::vector<std::uint64_t>{6, 6}));
  EXPECT_EQ(tensors[1].shape, (std::vector<std::uint64_t>{7}));
  EXPECT_EQ(tensors[2].shape, (std::vector<std::uint64_t>{2, 3, 5}));
  EXPECT_EQ(tensors[3].shape, (std::vector<std::uint64_t>{5, 3}));
}

TEST(TensorMapTest, AGapIsNamedByItsPlace) {
  EXPECT_EQ(problem({{.parameter = "a", .tensor = "t", .shape = {4, 6}},
                     {.parameter = "b", .tensor = "t", .row0 = 5, .shape = {1, 6}}}),
            "no parameter holds row 4, column 0 of tensor 't'");
  EXPECT_EQ(problem({{.parameter = "a", .tensor = "t", .row0 = 1, .shape = {4, 6}}}),
            "no parameter holds row 0, column 0 of tensor 't'");
  EXPECT_EQ(problem({{.parameter = "a", .tensor = "t", .shape = {4, 6}},
                     {.parameter = "b", .tensor = "t", .col0 = 6, .shape = {3, 2}}}),
            "no parameter holds row 3, column 6 of tensor 't'");
}

TEST(TensorMapTest, AnOverlapIsNamedByBothParameters) {
  EXPECT_EQ(problem({{.parameter = "a", .tensor = "t", .shape = {4, 6}},
                     {.parameter = "b", .tensor = "t", .row0 = 3, .shape = {4, 6}}}),
            "'a' and 'b' both hold row 3, column 0 of tensor 't'");
  EXPECT_THAT(problem({{.parameter = "a", .tensor = "t", .shape = {2}},
                       {.parameter = "a", .tensor = "u", .shape = {2}}}),
              HasSubstr("'a' is there twice"));
  EXPECT_THAT(problem({{.parameter = "a", .tensor = "t", .shape = {2, 3, 4}, .transposed = true}}),
              HasSubstr("no matrix"));
}

}  // namespace
}  // namespace spillway::trainer
