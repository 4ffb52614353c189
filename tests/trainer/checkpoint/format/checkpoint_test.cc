// A checkpoint on disk: read back exactly, and anything that is not as it was written is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/block_checksum.h>
#include <spillway/trainer/checkpoint.h>
#include <sys/stat.h>

#include <array>
#include <functional>
#include <random>

#include "tests/support/scratch.h"
#include "tests/support/seed.h"
#include "tests/trainer/checkpoint/format/checkpoint_fixture.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override { write_example(scratch_.path()); }
  Result<Checkpoint> open() { return Checkpoint::open(scratch_.path()); }

  // The kind and words of what opening or verifying finds.
  std::string problem() {
    auto checkpoint = open();
    if (!checkpoint) return checkpoint.error().message();
    std::string found;
    const auto note = [&](const Error& error) { found += error.message() + "\n"; };
    const std::uint64_t bad = checkpoint->verify(note);
    EXPECT_EQ(bad > 0, !found.empty());
    return found;
  }
  void flip(const std::string& name, std::size_t byte, int bit) {
    std::string bytes = read_all(scratch_ / name);
    bytes[byte] = static_cast<char>(bytes[byte] ^ (1 << bit));
    write_all(scratch_ / name, bytes);
  }

  // Gives the planes of the first rank checksums of blocks of their own, so many bytes in each
  // extent.
  ShardIndex cut_planes(const std::array<std::uint64_t, 2>& block_bytes, bool at_one_place) {
    CheckpointManifest manifest = *parse_manifest(read_all(scratch_ / kManifestName), "x");
    ShardIndex index = *parse_shard_index(read_all(scratch_ / "rank-0000.json"), "x", manifest);
    const std::string bytes = read_all(scratch_ / "rank-0000.bin");
    index.plane_checksum = swapper::kBlockChecksumName;
    index.files[0].of_planes = true;
    index.files[0].checksums.clear();
    if (at_one_place) index.extents[1].planes = index.extents[0].planes;
    const CheckpointPlanes planes = checkpoint_planes(manifest.format);
    for (const std::uint32_t number : {0u, 1u}) {
      CheckpointExtent& extent = index.extents[number];
      for (std::uint32_t plane = 0; plane < planes.all.size(); ++plane) {
        const std::uint64_t size = plane_bytes(planes.all[plane], extent.elements);
        PlaneChecksums sums{.block_bytes = block_bytes[number], .values = {}};
        for (std::uint64_t at = 0; at < size; at += sums.block_bytes) {
          const std::span block(bytes.data() + extent.planes[plane].offset + at,
                                std::min(sums.block_bytes, size - at));
          sums.values.push_back(
              swapper::block_checksum({.block = at / sums.block_bytes}, std::as_bytes(block)));
        }
        extent.checksums.push_back(std::move(sums));
      }
    }
    const std::string text = to_text(index);
    write_all(scratch_ / "rank-0000.json", text);
    manifest.shards[0] = {"rank-0000.json", text.size(), seal_of(text)};
    write_all(scratch_ / kManifestName, to_text(manifest));
    return index;
  }

  Scratch scratch_;
};

TEST_F(CheckpointTest, ReadsBackWhatWasWritten) {
  auto checkpoint = open();
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  EXPECT_EQ(problem(), "");
  const CheckpointManifest expected = example_manifest();
  EXPECT_EQ(checkpoint->manifest().step, expected.step);
  EXPECT_EQ(checkpoint->manifest().seed, expected.seed);
  EXPECT_EQ(checkpoint->manifest().samples_seen, expected.samples_seen);
  EXPECT_EQ(checkpoint->manifest().parameters, expected.parameters);
  EXPECT_EQ(checkpoint->manifest().training, expected.training);
  const auto model = read_saved_model(checkpoint->manifest().model, "x");
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_EQ(gpt_config(**model).layer_norm_epsilon, 1.1e-5);
}

TEST_F(CheckpointTest, AnyRangeOfAnyParameterIsFound) {
  auto checkpoint = open();
  ASSERT_TRUE(checkpoint);
  std::mt19937_64 draw(test_seed(11));
  const std::uint64_t sizes[] = {kElementsA, kElementsB, kElementsFrozen};
  for (int round = 0; round < 200; ++round) {
    const auto parameter = static_cast<std::uint32_t>(draw() % 3);
    const auto plane = static_cast<std::uint32_t>(draw() % (parameter == 2 ? 1 : 4));
    const std::uint64_t first = draw() % sizes[parameter];
    const std::uint64_t count = 1 + draw() % (sizes[parameter] - first);
    const std::uint64_t bytes = checkpoint->planes().all[plane].bytes_per_block;
    std::vector<std::byte> values(count * bytes), expected(count * bytes);
    std::uint64_t done = 0;
    for (const Checkpoint::Run& run : checkpoint->find(parameter, first, count)) {
      ASSERT_TRUE(checkpoint->read(run.shard, run.extent, plane, run.offset, run.count,
                                   values.data() + done * bytes));
      done += run.count;
    }
    ASSERT_EQ(done, count);
    for (std::uint64_t i = 0; i < expected.size(); ++i) {
      expected[i] = byte_of(parameter, plane, first * bytes + i);
    }
    ASSERT_EQ(values, expected) << "parameter " << parameter << " plane " << plane;
  }
}

TEST_F(CheckpointTest, AFlippedBitIsFoundWhereverItIs) {
  std::mt19937_64 draw(test_seed(12));
  for (const char* name :
       {"rank-0000.bin", "rank-0001.bin", "rank-0000.json", "rank-0001.json", kManifestName}) {
    const std::size_t size = std::filesystem::file_size(scratch_ / name);
    for (int round = 0; round < 12; ++round) {
      // The first and last bytes, and any others.
      const std::size_t byte = round == 0 ? 0 : round == 1 ? size - 1 : draw() % size;
      const int bit = static_cast<int>(draw() % 8);
      flip(name, byte, bit);
      EXPECT_THAT(problem(), HasSubstr(name)) << "byte " << byte << " bit " << bit;
      flip(name, byte, bit);
    }
  }
  EXPECT_EQ(problem(), "");
}

TEST_F(CheckpointTest, TheParameterPlaneAndOffsetOfABadByteAreNamed) {
  auto checkpoint = open();
  ASSERT_TRUE(checkpoint);
  const PlanePlace place = checkpoint->shards()[1].extents[0].planes[3];  // exp_avg_sq
  flip("rank-0001.bin", place.offset + 80'070 * 4, 3);                    // of b's
  const std::string found = problem();
  EXPECT_THAT(found, HasSubstr("exp_avg_sq of body.b"));
  const std::uint64_t block = (place.offset + 80'070 * 4) / kShardBlockBytes * kShardBlockBytes;
  EXPECT_THAT(found, HasSubstr("bytes at " + std::to_string(block)));
  std::vector<std::byte> value(4);
  const Checkpoint::Run run = checkpoint->find(1, 6, 1).front();
  const auto read = checkpoint->read(run.shard, run.extent, 3, run.offset, 1, value.data());
  ASSERT_FALSE(read) << "a byte that is not what was written was used";
  EXPECT_EQ(read.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(read.error().message(), HasSubstr("exp_avg_sq of body.b"));
}

TEST_F(CheckpointTest, CutExtendedEmptyMissingAndForeignFilesAreRefused) {
  const std::filesystem::path copy = scratch_ / "copy";
  for (const char* name : {"rank-0000.bin", "rank-0001.json", kManifestName}) {
    const std::filesystem::path path = scratch_ / name;
    const std::string bytes = read_all(path);
    const auto expect_refused = [&](const char* what) {
      const auto opened = open();
      ASSERT_FALSE(opened) << name << " " << what;
      EXPECT_THAT(opened.error().message(), HasSubstr(name)) << what;
    };
    for (const std::string& other : {bytes.substr(0, bytes.size() - 1), bytes + "x", std::string(),
                                     bytes.substr(0, bytes.size() / 2), std::string(100, 'x')}) {
      write_all(path, other);
      expect_refused("of another size");
    }
    std::filesystem::remove(path);
    expect_refused("missing");
    std::filesystem::create_directory(path);
    expect_refused("a directory");
    std::filesystem::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    expect_refused("a pipe");
    std::filesystem::remove(path);
    write_all(copy, bytes);
    std::filesystem::create_symlink(copy, path);
    expect_refused("a link to the right bytes elsewhere");
    std::filesystem::remove(path);
    write_all(path, bytes);
  }
  EXPECT_EQ(problem(), "");
}

TEST_F(CheckpointTest, TheIndexOfAnotherCheckpointIsRefused) {
  ShardIndex index =
      *parse_shard_index(read_all(scratch_ / "rank-0000.json"), "x", example_manifest());
  index.extents[0].planes[0].offset += 64;
  write_all(scratch_ / "rank-0000.json", to_text(index));
  const auto opened = open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(opened.error().message(), HasSubstr("rank-0000.json"));
}

// Blocks that were read are kept. A damaged one takes the place of the one that was not used for
// longest, and nothing is left of that: it must be read again.
TEST_F(CheckpointTest, ADamagedBlockIsNotTakenForTheOneInWhosePlaceItWasRead) {
  constexpr std::uint64_t kElements = 1024;  // of a block
  constexpr std::uint64_t kBlocks = 40;      // more than are kept
  const ShardIndex index = cut_planes({kElements * 4, kElements * 4}, /*at_one_place=*/false);
  flip("rank-0000.bin", index.extents[0].planes[3].offset + 60 * kElements * 4, 1);
  auto checkpoint = open();
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  const auto is_right = [&](std::uint64_t block) {
    std::array<std::byte, 4> value{}, expected{};
    for (std::uint64_t i = 0; i < 4; ++i) expected[i] = byte_of(0, 3, block * kElements * 4 + i);
    return checkpoint->read(0, 0, 3, block * kElements, 1, value.data()) && value == expected;
  };
  for (std::uint64_t block = 0; block < kBlocks; ++block) ASSERT_TRUE(is_right(block)) << block;
  EXPECT_FALSE(is_right(60));
  for (std::uint64_t block = kBlocks; block-- > 0;) EXPECT_TRUE(is_right(block)) << block;
}

// What a hostile index may say: two planes that begin at one byte, cut into blocks of two sizes.
TEST_F(CheckpointTest, BlocksOfTwoSizesAtOnePlaceAreNotTakenForEachOther) {
  const std::string bytes = read_all(scratch_ / "rank-0000.bin");
  const ShardIndex index = cut_planes({64, 4096}, /*at_one_place=*/true);
  auto checkpoint = open();
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  std::string values(40, '\0');
  const auto to = std::as_writable_bytes(std::span(values));
  ASSERT_TRUE(checkpoint->read(0, 0, 0, 0, 20, to.data()));  // the first 64 bytes are kept
  ASSERT_TRUE(checkpoint->read(0, 1, 0, 50, 20, to.data()));
  EXPECT_EQ(values, bytes.substr(index.extents[0].planes[0].offset + 100, 40));
}

}  // namespace
}  // namespace spillway::trainer::testing
