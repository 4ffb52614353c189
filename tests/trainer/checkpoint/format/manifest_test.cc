// The texts of a checkpoint: there and back, and what cannot be is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/checkpoint_manifest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/support/seed.h"
#include "tests/trainer/checkpoint/format/checkpoint_fixture.h"
#include "trainer/files/checksum.h"
#include "trainer/files/sealed_json.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer::testing {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

CheckpointManifest complete_manifest() {
  CheckpointManifest manifest = example_manifest();
  manifest.shards = {{"rank-0000.json", 12, 0x0123456789abcdefu}, {"rank-0001.json", 34, 1}};
  return manifest;
}

ShardIndex example_index() {
  return {.rank = 1,
          .files = {{"rank-0001.bin", 2 * kShardBlockBytes + 5, {1, ~std::uint64_t{0}, 3}}},
          .extents = {{.elements = 100,
                       .segments = {{.parameter = 0, .first = 64, .offset = 0, .count = 30},
                                    {.parameter = 1, .first = 0, .offset = 64, .count = 36}},
                       .planes = {{0, 0}, {0, 256}, {0, 512}, {0, 1024}}}}};
}

constexpr std::uint64_t kHuge = ~std::uint64_t{0};

// The text with one thing changed, and its checksum right.
std::string changed(const std::string& text, const std::function<void(ordered_json&)>& change) {
  ordered_json json = *unseal(text, "x");
  json.erase("checksum");
  change(json);
  return seal(json);
}

TEST(CheckpointManifestTest, ThereAndBack) {
  for (const auto kind : {OptimizerKind::kAdamW, OptimizerKind::kAdam, OptimizerKind::kLion,
                          OptimizerKind::kAdagrad}) {
    for (const auto states : {StateDtype::kFp32, StateDtype::kBf16, StateDtype::kInt8}) {
      CheckpointManifest manifest = complete_manifest();
      manifest.format = {.kind = kind, .weights = Dtype::kFp32, .states = states};
      const auto parsed = parse_manifest(to_text(manifest), "manifest");
      ASSERT_TRUE(parsed) << parsed.error().message();
      EXPECT_EQ(to_text(*parsed), to_text(manifest));
      EXPECT_EQ(parsed->format.kind, kind);
      EXPECT_EQ(parsed->format.states, states);
      EXPECT_EQ(parsed->shards, manifest.shards);
    }
  }
  const auto index = parse_shard_index(to_text(example_index()), "index", complete_manifest());
  ASSERT_TRUE(index) << index.error().message();
  EXPECT_EQ(*index, example_index());
}

TEST(CheckpointManifestTest, NoBitMayChange) {
  for (const std::string& text : {to_text(complete_manifest()), to_text(example_index())}) {
    for (std::size_t byte = 0; byte < text.size(); ++byte) {
      std::string flipped = text;
      flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << (byte % 8)));
      const auto read = unseal(flipped, "manifest");
      ASSERT_FALSE(read) << "byte " << byte;
      ASSERT_EQ(read.error().kind, ErrorKind::kCorrupt);
    }
    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, text.size() - 1}) {
      EXPECT_FALSE(unseal(text.substr(0, size), "manifest"));
    }
    EXPECT_FALSE(unseal(text + " ", "manifest"));
  }
}

TEST(CheckpointManifestTest, AnotherVersionIsRefused) {
  const auto parsed = parse_manifest(
      changed(to_text(complete_manifest()), [](auto& json) { json["format_version"] = 3; }), "m");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(parsed.error().message(), HasSubstr("version 3"));
}

TEST(CheckpointManifestTest, WhatCannotBeIsRefused) {
  const std::vector<std::function<void(ordered_json&)>> changes{
      [](auto& json) { json["kind"] = "soup"; },
      [](auto& json) { json["step"] = -1; },
      [](auto& json) { json["step"] = 1.5; },
      [](auto& json) { json["step"] = "1"; },
      [](auto& json) { json.erase("seed"); },
      [](auto& json) { json["world_size"] = 3; },
      [](auto& json) { json["world_size"] = 0; },
      [](auto& json) { json["shards"] = ordered_json::array(); },
      [](auto& json) { json["shards"] = 7; },
      [](auto& json) { json["shards"][0] = 7; },
      [](auto& json) { json["shards"][0]["index"] = "../rank-0000.json"; },
      [](auto& json) { json["shards"][0]["index"] = "/etc/passwd"; },
      [](auto& json) { json["shards"][0]["index"] = ".hidden"; },
      [](auto& json) { json["shards"][0]["index"] = "rank-0001.json"; },
      [](auto& json) { json["shards"][0]["checksum"] = "xyz"; },
      [](auto& json) { json["shards"][0]["checksum"] = 7; },
      [](auto& json) { json["dtype"] = "fp8"; },
      [](auto& json) { json["optimizer"] = nullptr; },
      [](auto& json) { json["planes"][0]["bytes_per_block"] = 1'000'000; },
      [](auto& json) { json["planes"].erase(0); },
      [](auto& json) { json["model"] = 3; },
      [](auto& json) { json["model"]["n_layer"] = std::uint64_t{1} << 40; },
      [](auto& json) { json["training"]["context"] = 64; },
      [](auto& json) { json["parameters"][1]["name"] = "body.a"; },
      [](auto& json) { json["parameters"][0]["shape"] = "large"; },
      [](auto& json) {
        json["parameters"][0]["shape"] = {std::uint64_t{1} << 40, 1 << 20};
      },
      [](auto& json) { json["parameters"][0]["shape"] = {-3}; },
      [](auto& json) { json["parameters"][0] = ordered_json::array({1}); },
      [](auto& json) { json["parameters"][0]["frozen"] = "no"; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const auto parsed = parse_manifest(changed(to_text(complete_manifest()), changes[i]), "m.json");
    ASSERT_FALSE(parsed) << "change " << i;
    EXPECT_EQ(parsed.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(parsed.error().message(), HasSubstr("m.json"));
  }
}

TEST(CheckpointManifestTest, AnIndexThatReachesOutIsRefused) {
  const std::vector<std::function<void(ordered_json&)>> changes{
      [](auto& json) { json["kind"] = "spillway checkpoint"; },
      [](auto& json) { json["rank"] = 2; },
      [](auto& json) { json["block_bytes"] = 1; },
      [](auto& json) { json["files"][0]["name"] = "../../rank-0001.bin"; },
      [](auto& json) { json["files"][0]["name"] = ""; },
      [](auto& json) { json["files"][0]["size_bytes"] = std::uint64_t{1} << 59; },
      [](auto& json) { json["files"][0]["size_bytes"] = kHuge; },
      [](auto& json) { json["files"][0]["checksums"].push_back("0000000000000000"); },
      [](auto& json) { json["files"].push_back(json["files"][0]); },
      [](auto& json) { json["extents"][0]["elements"] = 99; },
      [](auto& json) { json["extents"][0]["elements"] = kHuge; },
      [](auto& json) { json["extents"][0]["elements"] = std::uint64_t{1} << 48; },
      [](auto& json) { json["extents"][0]["segments"][0][0] = 3; },
      [](auto& json) { json["extents"][0]["segments"][0][0] = 2; },  // the frozen one
      [](auto& json) { json["extents"][0]["segments"][0][1] = kElementsA - 29; },
      [](auto& json) { json["extents"][0]["segments"][0][2] = 71; },
      [](auto& json) { json["extents"][0]["segments"][0][3] = 0; },
      [](auto& json) { json["extents"][0]["segments"][0][3] = kHuge; },
      [](auto& json) { json["extents"][0]["segments"][0].erase(3); },
      [](auto& json) { json["extents"][0]["segments"][0] = "all"; },
      [](auto& json) { json["extents"][0]["planes"].erase(3); },
      [](auto& json) {
        json["extents"][0]["planes"].push_back({0, 0});
      },
      [](auto& json) { json["extents"][0]["planes"][0][0] = 1; },
      [](auto& json) { json["extents"][0]["planes"][3][1] = 2 * kShardBlockBytes + 5 - 399; },
      [](auto& json) { json["extents"][0]["planes"][3][1] = kHuge; },
      [](auto& json) { json["extents"][0] = 7; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const auto parsed = parse_shard_index(changed(to_text(example_index()), changes[i]), "i.json",
                                          complete_manifest());
    ASSERT_FALSE(parsed) << "change " << i;
    EXPECT_EQ(parsed.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(parsed.error().message(), HasSubstr("i.json"));
  }
}

// Texts of a hostile writer, who can compute checksums: never a crash, nor a place out of bounds.
TEST(CheckpointManifestTest, WhateverASealedTextSaysItStaysWithinBounds) {
  std::mt19937_64 draw(test_seed(21));
  const std::string_view alphabet = "0123456789,:[]{}\"-.etrufalsn \\\x80";
  const auto disturbed = [&](std::string text, int round) {
    text.resize(text.size() - 20);  // the digits and what follows them
    for (std::uint64_t i = 0, changes = 1 + draw() % 4; i < changes; ++i) {
      const std::size_t at = draw() % text.size();
      const char c = alphabet[draw() % alphabet.size()];
      if (round % 2 == 0) {  // a number becomes another one, or longer
        const std::size_t digit = std::min(text.find_first_of("0123456789", at), text.size() - 1);
        text.replace(digit, draw() % 2, 1, static_cast<char>('0' + draw() % 10));
      } else {
        text.replace(at, draw() % 2, 1, c);
      }
    }
    return text + hex_of(checksum_of(std::as_bytes(std::span(text.data(), text.size())))) +
           "\"\n}\n";
  };
  std::uint64_t read = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto manifest = parse_manifest(disturbed(to_text(complete_manifest()), round), "m");
    if (manifest) {
      EXPECT_EQ(manifest->shards.size(), manifest->world_size);
    }
    const auto index =
        parse_shard_index(disturbed(to_text(example_index()), round), "i", complete_manifest());
    if (!index) continue;
    ++read;
    for (const CheckpointExtent& extent : index->extents) {
      for (const ExtentSegment& segment : extent.segments) {
        ASSERT_LE(segment.offset + segment.count, extent.elements);
        const std::uint64_t all = element_count(complete_manifest().parameters[segment.parameter]);
        ASSERT_LE(segment.first + segment.count, all);
      }
      for (std::size_t plane = 0; plane < extent.planes.size(); ++plane) {
        const swapper::Plane format = checkpoint_planes(complete_manifest().format).all[plane];
        ASSERT_LE(extent.planes[plane].offset + plane_bytes(format, extent.elements),
                  index->files[extent.planes[plane].file].size_bytes);
      }
    }
  }
  EXPECT_GT(read, 100u) << "most texts were no JSON: the test tests nothing";
}

TEST(CheckpointManifestTest, EveryElementIsThereOnce) {
  CheckpointManifest manifest = complete_manifest();
  manifest.parameters = {{"a", {100}, false}, {"none", {0, 3}, false}, {"b", {10}, false}};
  const auto covered = [&](std::vector<ExtentSegment> segments) {
    const ShardIndex index{.rank = 0, .files = {}, .extents = {{1000, std::move(segments), {}}}};
    return check_coverage(manifest, {&index, 1}, "m").has_value();
  };
  EXPECT_TRUE(covered({{2, 0, 200, 10}, {0, 40, 0, 60}, {0, 0, 100, 40}}));
  EXPECT_FALSE(covered({{2, 0, 200, 10}, {0, 40, 0, 60}, {0, 0, 100, 39}})) << "a gap";
  EXPECT_FALSE(covered({{2, 0, 200, 10}, {0, 40, 0, 60}, {0, 0, 100, 41}})) << "an overlap";
  EXPECT_FALSE(covered({{2, 0, 200, 10}, {0, 0, 0, 60}, {0, 50, 100, 40}})) << "for a gap";
  EXPECT_FALSE(covered({{2, 0, 200, 10}, {0, 40, 0, 59}, {0, 0, 100, 40}})) << "no end";
  EXPECT_FALSE(covered({{0, 40, 0, 60}, {0, 0, 100, 40}})) << "a parameter is missing";
  EXPECT_FALSE(covered({{2, 0, 200, 10}, {2, 0, 0, 10}, {0, 0, 100, 100}})) << "twice";
}

}  // namespace
}  // namespace spillway::trainer::testing
