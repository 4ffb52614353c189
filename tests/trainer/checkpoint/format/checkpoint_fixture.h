// A small checkpoint made by hand: two ranks, three parameters (one frozen), known bytes.
#pragma once

#include <gtest/gtest.h>
#include <spillway/trainer/checkpoint_manifest.h>
#include "trainer/checkpoint/files.h"
#include "trainer/models/gpt2/family.h"
#include "trainer/plan/checkpoint_planes.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace spillway::trainer::testing {

inline constexpr std::uint64_t kElementsA = 300'000;  // exp_avg of it: several blocks
inline constexpr std::uint64_t kElementsB = 70;
inline constexpr std::uint64_t kElementsFrozen = 1'000;

// What each byte of a plane of a parameter is.
inline std::byte byte_of(std::uint32_t parameter, std::uint32_t plane, std::uint64_t at) {
  return static_cast<std::byte>(at * 7 + at / 251 + plane * 31 + parameter * 101);
}

inline CheckpointManifest example_manifest() {
  CheckpointManifest manifest;
  manifest.step = 42;
  manifest.seed = 0xfedcba9876543210u;
  manifest.samples_seen = 168;
  manifest.world_size = 2;
  manifest.format = {.kind = OptimizerKind::kAdamW, .weights = Dtype::kBf16};
  manifest.model = saved_model(*gpt2_model({.layer_norm_epsilon = 1.1e-5}));
  manifest.training = {{"context", "64"}, {"learning_rate", "0.001"}};
  manifest.parameters = {{"body.a", {300, 1000}, false},
                         {"body.b", {static_cast<std::int64_t>(kElementsB)}, false},
                         {"body.f", {static_cast<std::int64_t>(kElementsFrozen)}, true}};
  return manifest;
}

inline std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}
inline void write_all(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Writes the planes of `extent` to `writer` and notes their places.
inline void write_extent(ShardWriter& writer, CheckpointExtent& extent, bool frozen) {
  const CheckpointPlanes planes = checkpoint_planes(example_manifest().format);
  const std::size_t count = frozen ? planes.weight_count : planes.all.size();
  for (std::uint32_t plane = 0; plane < count; ++plane) {
    const std::uint64_t bytes = planes.all[plane].bytes_per_block;
    std::vector<std::byte> values(extent.elements * bytes);
    for (const ExtentSegment& segment : extent.segments) {
      for (std::uint64_t i = 0; i < segment.count * bytes; ++i) {
        values[segment.offset * bytes + i] =
            byte_of(segment.parameter, plane, segment.first * bytes + i);
      }
    }
    auto offset = writer.append(values);
    ASSERT_TRUE(offset) << offset.error().message();
    extent.planes.push_back({.file = 0, .offset = *offset});
  }
}

inline void write_example_shard(const std::filesystem::path& directory, std::uint32_t rank,
                                CheckpointManifest& manifest) {
  const auto files = make_checkpoint_files();
  const std::string name = "rank-000" + std::to_string(rank);
  auto file = files->create(directory / (name + ".bin"));
  ASSERT_TRUE(file) << file.error().message();
  ShardWriter writer(std::move(*file), name + ".bin");
  ShardIndex index{.rank = rank, .files = {}, .extents = {}};
  // The first rank has most of `a`; the other the rest, `b` after a gap of padding, and `f`.
  if (rank == 0) {
    index.extents = {{100'000, {{0, 0, 0, 100'000}}, {}},
                     {120'001, {{0, 100'000, 1, 120'000}}, {}}};
  } else {
    index.extents = {{80'200, {{0, 220'000, 0, 80'000}, {1, 0, 80'064, kElementsB}}, {}},
                     {1'024, {{2, 0, 0, kElementsFrozen}}, {}}};
  }
  for (std::size_t i = 0; i < index.extents.size(); ++i) {
    write_extent(writer, index.extents[i], rank == 1 && i == 1);
  }
  auto entry = writer.finish();
  ASSERT_TRUE(entry) << entry.error().message();
  index.files.push_back(std::move(*entry));
  const std::string text = to_text(index);
  write_all(directory / (name + ".json"), text);
  manifest.shards.push_back({name + ".json", text.size(), seal_of(text)});
}

// An existing, empty directory becomes a checkpoint.
inline void write_example(const std::filesystem::path& directory) {
  CheckpointManifest manifest = example_manifest();
  for (std::uint32_t rank = 0; rank < 2; ++rank) write_example_shard(directory, rank, manifest);
  write_all(directory / kManifestName, to_text(manifest));
}

}  // namespace spillway::trainer::testing
