// The manifest of saved tiles: what is encoded decodes to the same, and nothing else is taken.
#include "saved_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <functional>

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

// Two planes, tiles of 5000 and 7 elements, both in one segment: 20000 + 28 bytes, padded.
SavedManifest example() {
  SavedManifest manifest;
  manifest.planes = {{"keys", 4}, {"scale", 4, 256}};
  manifest.tile_elements = {5'000, 9, 7};
  manifest.file_bytes = {32'768 + 16'384};
  manifest.tiles = {{.tile = 0, .file = 0, .offset = 16'384, .generation = 3, .sums = {{1}, {2}}},
                    {.tile = 2, .file = 0, .offset = 0, .generation = 4, .sums = {{5}, {6}}}};
  return manifest;
}

Result<SavedManifest> decode(const std::string& text) {
  return decode_saved_manifest(std::as_bytes(std::span(text)), "/saved/manifest");
}

// With the right checksum for its changed bytes.
std::string sealed(std::string text) {
  const XXH64_hash_t sum = XXH3_64bits(text.data(), text.size() - sizeof sum);
  std::memcpy(text.data() + text.size() - sizeof sum, &sum, sizeof sum);
  return text;
}

void expect_refused(const std::string& text, ErrorKind kind, const std::string& why) {
  const auto decoded = decode(text);
  ASSERT_FALSE(decoded) << why;
  EXPECT_EQ(decoded.error().kind, kind) << decoded.error().message();
  EXPECT_THAT(decoded.error().message(), HasSubstr(why));
  EXPECT_EQ(decoded.error().path, "/saved/manifest");
}

TEST(SavedManifestTest, ComesBackAsItWas) {
  const SavedManifest manifest = example();
  const auto same = decode(encode(manifest));
  ASSERT_TRUE(same) << same.error().message();
  EXPECT_EQ(encode(*same), encode(manifest));
  EXPECT_EQ(same->planes[1].elements_per_block, 256u);
  EXPECT_EQ(same->tile_elements, manifest.tile_elements);
  EXPECT_EQ(same->tiles[1].sums, manifest.tiles[1].sums);
  EXPECT_EQ(same->tiles[1].generation, 4u);
}

// As docs/format.md has it, whatever machine reads it.
TEST(SavedManifestTest, IsLittleEndianByteByByte) {
  SavedManifest manifest;
  manifest.planes = {{"k", 2}};
  manifest.tile_elements = {3};
  manifest.file_bytes = {4'096};
  manifest.tiles = {{.tile = 0, .file = 0, .offset = 0, .generation = 7, .sums = {{0x1122}}}};
  const std::string text = encode(manifest);
  const std::string name = "aes-4x128 xxh3-64 of tile, plane, generation, block";
  const std::string expected =
      std::string("SPLWTILE\4\3\2\1\1\0\0\0", 16) + std::string("\xb0\0\0\0\0\0\0\0", 8) +
      std::string("\x33\0\0\0", 4) + name + std::string("\1\0\0\0", 4) +
      std::string("\1\0\0\0k\2\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0", 21) +
      std::string("\1\0\0\0\3\0\0\0\0\0\0\0", 12) + std::string("\1\0\0\0\0\x10\0\0\0\0\0\0", 12) +
      std::string("\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\7\0\0\0", 24) +
      std::string("\x22\x11\0\0\0\0\0\0", 8);
  EXPECT_EQ(text.substr(24, text.size() - 32), expected.substr(24));
  EXPECT_EQ(text.substr(0, 16), expected.substr(0, 16));
  EXPECT_EQ(static_cast<unsigned char>(text[16]), text.size());
  const XXH64_hash_t sum = XXH3_64bits(text.data(), text.size() - 8);
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(static_cast<unsigned char>(text[text.size() - 8 + i]), (sum >> (8 * i)) & 0xff);
  }
}

TEST(SavedManifestTest, OtherFilesVersionsAndMachines) {
  const std::string text = encode(example());
  const auto with = [&](std::size_t at, const std::string& bytes) {
    return std::string(text).replace(at, bytes.size(), bytes);
  };
  expect_refused("", ErrorKind::kCorrupt, "cut");
  expect_refused("SPLWTIL", ErrorKind::kCorrupt, "cut");
  expect_refused(text.substr(0, 23), ErrorKind::kCorrupt, "cut");
  expect_refused(std::string(100, 'x'), ErrorKind::kInvalid, "no manifest of saved tiles");
  expect_refused(with(8, std::string("\1\2\3\4", 4)), ErrorKind::kUnsupported, "byte order");
  expect_refused(with(12, std::string("\2\0\0\0", 4)), ErrorKind::kUnsupported, "version 2");
  expect_refused(with(16, std::string(8, '\xff')), ErrorKind::kCorrupt, "says that it has");
  expect_refused(with(28, "ZZZ"), ErrorKind::kCorrupt, "checksum mismatch");
  expect_refused(sealed(with(28, "ZZZ")), ErrorKind::kUnsupported, "its checksums are 'ZZZ-4x128");
  // The bytes of a checksum's block, after the first plane's name and sizes.
  const std::size_t block = text.find("keys") + 4 + 8;
  expect_refused(sealed(with(block, std::string("\1\0", 2))), ErrorKind::kUnsupported,
                 "blocks of another size");
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(decode(text.substr(0, size))) << size;
  }
  EXPECT_FALSE(decode(text + "x"));
}

// Sealed with the right checksum: by somebody who wants a reader to go wrong.
TEST(SavedManifestTest, NumbersThatMakeNoSense) {
  const auto refused = [](const std::function<void(SavedManifest&)>& change, const char* why) {
    SavedManifest manifest = example();
    change(manifest);
    expect_refused(encode(manifest), ErrorKind::kCorrupt, why);
  };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  refused([](auto& m) { m.planes[1].name = "keys"; }, "two planes of one name");
  refused([](auto& m) { m.tile_elements[1] = 0; }, "a tile's elements");
  refused([](auto& m) { m.tile_elements[1] = kHuge; }, "a tile's elements");
  refused([](auto& m) { m.tile_elements[1] = std::uint64_t{1} << 60; }, "a tile's elements");
  refused([](auto& m) { m.file_bytes[0] = kHuge; }, "a segment's size");
  refused([](auto& m) { m.file_bytes.assign(3, std::uint64_t{1} << 61); }, "a segment's size");
  refused([](auto& m) { m.tiles[1].tile = 3; }, "a tile's number");
  refused([](auto& m) { m.tiles[1].tile = 0; }, "a tile's number");
  refused([](auto& m) { m.tiles[0].file = 1; }, "a tile's place");
  refused([](auto& m) { m.tiles[0].offset = 16'385; }, "a tile's place");
  refused([](auto& m) { m.tiles[0].offset = kHuge - 4'095; }, "a tile's place");
  refused([](auto& m) { m.tiles[0].offset = 32'768; }, "a tile's place");
  refused([](auto& m) { m.file_bytes[0] = 8'192; }, "a tile's place");
  refused([](auto& m) { m.tiles[1].offset = 12'288; }, "two tiles at one place");
  refused([](auto& m) { m.tiles[1].sums[1].push_back(9); }, "the end");
  refused([](auto& m) { m.tiles[1].sums[1].clear(); }, "a tile's checksums");
  refused([](auto& m) { m.tile_elements[2] = std::uint64_t{1} << 58; }, "a tile's place");
  refused([](auto& m) { m.planes.clear(); }, "the planes");
  // Counts for which there are no bytes.
  const std::string text = encode(example());
  for (std::size_t at = kSavedHeadBytes; at + 12 <= text.size(); ++at) {
    const std::string changed = std::string(text).replace(at, 4, std::string(4, '\xff'));
    const auto decoded = decode(sealed(changed));
    if (decoded) {
      EXPECT_EQ(encode(*decoded), sealed(changed)) << at;
    }
  }
}

}  // namespace
}  // namespace spillway::swapper
