// The update that hashes what it loads and stores: the bits of the plain one, the hashes of the
// bytes before and after it.
#include <gtest/gtest.h>
#include "trainer/plan/optimizer_layout.h"

#include "tests/trainer/kernels/every_target.h"
#include "tests/trainer/kernels/optimizer_state.h"
#include "tests/trainer/kernels/update_pieces.h"

namespace spillway::trainer {
namespace {

using swapper::BlockHash;
using testing::all_formats;
using testing::for_each_target;
using testing::TileState;
using testing::UpdatePieces;
using testing::Values;

constexpr std::uint64_t kSeed = 20261;

class HashedUpdate : public ::testing::TestWithParam<OptimizerFormat> {
 protected:
  void SetUp() override { std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed)); }

  static UpdateConstants constants() {
    return UpdateConstants::at_step(
        {.kind = GetParam().kind, .learning_rate = 3e-4, .weight_decay = 0.1}, 7, 0.5f);
  }
  TileState tile(std::size_t size, Values values = Values::kTraining) const {
    return TileState(GetParam(), size, values, kSeed + size);
  }

  // By the reference's rounds, of whole planes.
  static std::vector<BlockHash> hashes_of(TileState& tile) {
    const UpdatePlanes planes = tile.planes();
    const OptimizerFormat& format = planes.format;
    const bool split = format.weights == Dtype::kBf16;
    const std::size_t state_bytes = format.states == StateDtype::kInt8   ? 1
                                    : format.states == StateDtype::kBf16 ? 2
                                                                         : 4;
    std::vector<BlockHash> result;
    const auto add = [&](const void* plane, std::size_t bytes) {
      BlockHash hash;
      hash.add_reference({static_cast<const std::byte*>(plane), bytes});
      result.push_back(hash);
    };
    add(planes.weight, tile.size() * (split ? 2 : 4));
    if (split) add(planes.weight_lo, tile.size() * 2);
    const std::uint32_t states = state_count(format.kind);
    for (std::uint32_t k = 0; k < states; ++k) add(planes.states[k], tile.size() * state_bytes);
    if (format.states == StateDtype::kInt8) {
      const std::size_t blocks = (tile.size() + kQuantisedBlock - 1) / kQuantisedBlock;
      for (std::uint32_t k = 0; k < states; ++k) add(planes.absmax[k], blocks * sizeof(float));
    }
    return result;
  }
  static void expect_same(const UpdateHashes& hashes, const std::vector<BlockHash>& expected) {
    const auto states = state_hashes(hashes, GetParam());
    ASSERT_EQ(1 + states.size(), expected.size());
    EXPECT_EQ(weight_hashes(hashes)[0].lanes, expected[0].lanes);
    for (std::size_t i = 0; i < states.size(); ++i) {
      EXPECT_EQ(states[i].lanes, expected[i + 1].lanes) << "plane " << i << " of the states";
    }
  }
};

TEST_P(HashedUpdate, HasTheBitsOfThePlainOneAndTheHashesOfTheBytes) {
  for_each_target([this] {
    for (const std::size_t size : {1, 31, 63, 64, 65, 127, 256, 300, 1024, 4096 + 77, 9 * 1024}) {
      SCOPED_TRACE(size);
      TileState expected = tile(size);
      TileState actual = expected;
      const std::vector<BlockHash> hashes_before = hashes_of(actual);
      UpdateHashes before, after;
      update_range(constants(), actual.planes(), 0, size, before, after);
      update_range(constants(), expected.planes(), 0, size);
      ASSERT_EQ(actual.difference(expected), "");
      expect_same(before, hashes_before);
      expect_same(after, hashes_of(actual));
    }
  });
}

// What a CPU without any vectors says must be what the others verify.
TEST_P(HashedUpdate, TheReferencesHashesAreThose) {
  TileState plain = tile(3 * 1024 + 100);
  TileState actual = plain;
  UpdateHashes before, after, reference_before, reference_after;
  update_range(constants(), actual.planes(), 0, actual.size(), before, after);
  update_range_reference(constants(), plain.planes(), 0, plain.size(), reference_before,
                         reference_after);
  ASSERT_EQ(actual.difference(plain), "");
  for (std::size_t i = 0; i < std::size(before.planes); ++i) {
    EXPECT_EQ(before.planes[i].lanes, reference_before.planes[i].lanes);
    EXPECT_EQ(after.planes[i].lanes, reference_after.planes[i].lanes);
  }
}

TEST_P(HashedUpdate, PiecesThatBeginAnywhereAndCallsOfAnySize) {
  for_each_target([this] {
    TileState expected = tile(20003);
    TileState actual = expected;
    const UpdatePieces pieces(actual.planes(), 20003, constants(), {0, 100, 613, 620, 2620});
    const std::vector<BlockHash> hashes_before = hashes_of(actual);
    update_range({}, expected.planes(pieces.get()), 0, 20003);
    UpdateHashes before, after;
    std::uint64_t first = 0;
    for (const std::uint64_t count : {4096, 8192, 7715}) {
      update_range({}, actual.planes(pieces.get()), first, count, before, after);
      first += count;
    }
    EXPECT_EQ(actual.difference(expected), "");
    expect_same(before, hashes_before);
    expect_same(after, hashes_of(actual));
  });
}

// Whatever bits a NaN got, they are the ones that are hashed.
TEST_P(HashedUpdate, AnyValues) {
  for_each_target([this] {
    TileState actual = tile(2048, Values::kAnything);
    const std::vector<BlockHash> hashes_before = hashes_of(actual);
    UpdateHashes before, after;
    update_range(constants(), actual.planes(), 0, actual.size(), before, after);
    expect_same(before, hashes_before);
    expect_same(after, hashes_of(actual));
  });
}

INSTANTIATE_TEST_SUITE_P(Formats, HashedUpdate, ::testing::ValuesIn(all_formats()),
                         [](const auto& format) { return testing::name_of(format.param); });

}  // namespace
}  // namespace spillway::trainer
