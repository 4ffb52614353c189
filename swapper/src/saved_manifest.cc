#include "saved_manifest.h"

#include <xxhash.h>

#include <spillway/swapper/block_checksum.h>
#include <spillway/swapper/tile_store.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <tuple>
#include <utility>

namespace spillway::swapper {
namespace {

constexpr std::string_view kMagic = "SPLWTILE";
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 62;  // no sum of two overflows

class Writer {
 public:
  template <typename Number>
  void number(Number value) {
    for (std::size_t i = 0; i < sizeof value; ++i) {
      bytes_.push_back(static_cast<char>(std::uint64_t{value} >> (8 * i)));
    }
  }
  void text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    bytes_ += value;
  }
  std::string& bytes() noexcept { return bytes_; }

 private:
  std::string bytes_;
};

// Takes values off the front. After a value that is not there, all are 0 and `ok` is false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <typename Number>
  Number number() {
    const auto bytes = take(sizeof(Number));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) value |= std::uint64_t(bytes[i]) << (8 * i);
    return static_cast<Number>(value);
  }
  std::string text() {
    const auto bytes = take(number<std::uint32_t>());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // Returns how many entries follow, of at least `entry_bytes` each.
  std::uint32_t count(std::size_t entry_bytes) {
    const auto value = number<std::uint32_t>();
    ok_ = ok_ && value <= rest_.size() / entry_bytes;
    return ok_ ? value : 0;
  }
  std::vector<std::uint64_t> numbers(std::uint64_t count) {
    ok_ = ok_ && count <= rest_.size() / sizeof(std::uint64_t);
    std::vector<std::uint64_t> values(ok_ ? count : 0);
    for (std::uint64_t& value : values) value = number<std::uint64_t>();
    return values;
  }
  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return rest_.empty(); }

 private:
  std::span<const std::byte> take(std::size_t count) {
    ok_ = ok_ && count <= rest_.size();
    if (!ok_) return {};
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

std::uint32_t swapped(std::uint32_t value) { return __builtin_bswap32(value); }

// Bytes of a plane of a tile without padding; nothing if they exceed any storage.
std::uint64_t plane_bytes(const Plane& plane, std::uint64_t elements) {
  const std::uint64_t blocks = (elements - 1) / plane.elements_per_block + 1;
  return blocks > kMaxBytes / plane.bytes_per_block ? 0 : blocks * plane.bytes_per_block;
}

// Bytes of a tile with padding; nothing if they exceed any storage.
std::uint64_t tile_bytes(const std::vector<Plane>& planes, std::uint64_t elements) {
  std::uint64_t sum = 0;
  for (const Plane& plane : planes) {
    const std::uint64_t bytes = plane_bytes(plane, elements);
    if (bytes == 0) return 0;
    sum += (bytes + kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment;
    if (sum > kMaxBytes) return 0;
  }
  return sum;
}

// Reads the parts in their order. Each returns what makes no sense, or nullptr.
class Parser {
 public:
  explicit Parser(std::span<const std::byte> body) : in_(body) {}

  // Tells the algorithm's name when it is another one.
  const char* algorithm(std::string& name) {
    name = in_.text();
    return in_.ok() ? nullptr : "the checksum's name";
  }
  const char* planes(SavedManifest& manifest, bool& same_blocks) {
    std::set<std::string> names;
    const std::uint32_t count = in_.count(20);
    for (std::uint32_t i = 0; i < count; ++i) {
      Plane plane{.name = in_.text()};
      plane.bytes_per_block = in_.number<std::uint32_t>();
      plane.elements_per_block = in_.number<std::uint32_t>();
      const auto block_bytes = in_.number<std::uint64_t>();
      if (plane.bytes_per_block == 0 || plane.elements_per_block == 0) return "a plane's size";
      if (!names.insert(plane.name).second) return "two planes of one name";
      block_bytes_.push_back(checksum_block_bytes(plane));
      same_blocks &= block_bytes == block_bytes_.back();
      manifest.planes.push_back(std::move(plane));
    }
    return !in_.ok() || count == 0 ? "the planes" : nullptr;
  }
  const char* sizes(SavedManifest& manifest) {
    manifest.tile_elements = in_.numbers(in_.number<std::uint32_t>());
    for (const std::uint64_t elements : manifest.tile_elements) {
      if (elements == 0 || elements > kMaxBytes || tile_bytes(manifest.planes, elements) == 0) {
        return "a tile's elements";
      }
    }
    manifest.file_bytes = in_.numbers(in_.number<std::uint32_t>());
    std::uint64_t sum = 0;
    for (const std::uint64_t bytes : manifest.file_bytes) {
      if (bytes > kMaxBytes || (sum += bytes) > kMaxBytes) return "a segment's size";
    }
    return in_.ok() ? nullptr : "the sizes";
  }
  const char* tiles(SavedManifest& manifest) {
    const std::uint32_t count = in_.count(20);
    for (std::uint32_t i = 0; i < count; ++i) {
      SavedManifest::Tile tile{.tile = in_.number<std::uint32_t>(), .sums = {}};
      tile.file = in_.number<std::uint32_t>();
      tile.offset = in_.number<std::uint64_t>();
      tile.generation = in_.number<std::uint32_t>();
      if (!in_.ok() || tile.tile >= manifest.tile_elements.size() ||
          (i > 0 && tile.tile <= manifest.tiles.back().tile)) {
        return "a tile's number";
      }
      const std::uint64_t elements = manifest.tile_elements[tile.tile];
      const std::uint64_t bytes = tile_bytes(manifest.planes, elements);
      if (tile.file >= manifest.file_bytes.size() || tile.offset % kPlaneAlignment != 0 ||
          bytes > manifest.file_bytes[tile.file] ||
          tile.offset > manifest.file_bytes[tile.file] - bytes) {
        return "a tile's place";
      }
      for (std::size_t plane = 0; plane < manifest.planes.size(); ++plane) {
        const std::uint64_t of_plane = plane_bytes(manifest.planes[plane], elements);
        tile.sums.push_back(in_.numbers((of_plane - 1) / block_bytes_[plane] + 1));
      }
      if (!in_.ok()) return "a tile's checksums";
      manifest.tiles.push_back(std::move(tile));
    }
    if (overlap(manifest)) return "two tiles at one place";
    return in_.at_end() && in_.ok() ? nullptr : "the end";
  }

 private:
  static bool overlap(const SavedManifest& manifest) {
    std::vector<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>> places;
    for (const SavedManifest::Tile& tile : manifest.tiles) {
      const std::uint64_t bytes = tile_bytes(manifest.planes, manifest.tile_elements[tile.tile]);
      places.emplace_back(tile.file, tile.offset, tile.offset + bytes);
    }
    std::ranges::sort(places);
    for (std::size_t i = 1; i < places.size(); ++i) {
      const auto& [file, begin, end] = places[i];
      if (file == std::get<0>(places[i - 1]) && begin < std::get<2>(places[i - 1])) return true;
    }
    return false;
  }

  Reader in_;
  std::vector<std::uint64_t> block_bytes_;  // of each plane's checksums
};

}  // namespace

std::string saved_segment_name(std::uint32_t file) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "segment-%05u", file);
  return name.data();
}

std::string encode(const SavedManifest& manifest) {
  Writer out;
  out.bytes() += kMagic;
  out.number(kByteOrder);
  out.number(kVersion);
  out.number(std::uint64_t{0});  // the size, which is known at the end
  out.text(kBlockChecksumName);
  out.number(static_cast<std::uint32_t>(manifest.planes.size()));
  for (const Plane& plane : manifest.planes) {
    out.text(plane.name);
    out.number(plane.bytes_per_block);
    out.number(plane.elements_per_block);
    out.number(std::uint64_t{checksum_block_bytes(plane)});
  }
  out.number(static_cast<std::uint32_t>(manifest.tile_elements.size()));
  for (const std::uint64_t elements : manifest.tile_elements) out.number(elements);
  out.number(static_cast<std::uint32_t>(manifest.file_bytes.size()));
  for (const std::uint64_t bytes : manifest.file_bytes) out.number(bytes);
  out.number(static_cast<std::uint32_t>(manifest.tiles.size()));
  for (const SavedManifest::Tile& tile : manifest.tiles) {
    out.number(tile.tile);
    out.number(tile.file);
    out.number(tile.offset);
    out.number(tile.generation);
    for (const std::vector<std::uint64_t>& plane : tile.sums) {
      for (const std::uint64_t value : plane) out.number(value);
    }
  }
  Writer size;
  size.number(std::uint64_t{out.bytes().size() + sizeof(XXH64_hash_t)});
  out.bytes().replace(kSavedHeadBytes - sizeof(std::uint64_t), sizeof(std::uint64_t), size.bytes());
  out.number(std::uint64_t{XXH3_64bits(out.bytes().data(), out.bytes().size())});
  return std::move(out.bytes());
}

Result<std::uint64_t> check_head(std::span<const std::byte> head, const std::string& path) {
  const auto refuse = [&](ErrorKind kind, const std::string& detail) {
    return make_error(kind, "open saved tiles", path, detail);
  };
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (!text.starts_with(kMagic)) {
    if (text.size() < kMagic.size() && kMagic.starts_with(text)) {
      return refuse(ErrorKind::kCorrupt, "the manifest is cut");
    }
    return refuse(ErrorKind::kInvalid, "is no manifest of saved tiles");
  }
  if (head.size() < kSavedHeadBytes) return refuse(ErrorKind::kCorrupt, "the manifest is cut");
  Reader in(head.subspan(kMagic.size()));
  const auto order = in.number<std::uint32_t>();
  const auto version = in.number<std::uint32_t>();
  if (order == swapped(kByteOrder)) {
    return refuse(ErrorKind::kUnsupported, "written in another byte order (big-endian)");
  }
  if (order != kByteOrder) return refuse(ErrorKind::kCorrupt, "the manifest's head is damaged");
  if (version != kVersion) {
    return refuse(ErrorKind::kUnsupported, "its manifest has version " + std::to_string(version) +
                                               ", this program knows version 1 only");
  }
  return in.number<std::uint64_t>();
}

Result<SavedManifest> decode_saved_manifest(std::span<const std::byte> bytes,
                                            const std::string& path) {
  const auto refuse = [&](ErrorKind kind, const std::string& detail) {
    return make_error(kind, "open saved tiles", path, detail);
  };
  auto size = check_head(bytes, path);
  if (!size) return tl::unexpected(std::move(size.error()));
  constexpr std::size_t kSum = sizeof(XXH64_hash_t);
  if (*size != bytes.size() || bytes.size() < kSavedHeadBytes + kSum) {
    return refuse(ErrorKind::kCorrupt, "the manifest has " + std::to_string(bytes.size()) +
                                           " bytes and says that it has " + std::to_string(*size));
  }
  const auto content = bytes.first(bytes.size() - kSum);
  if (XXH3_64bits(content.data(), content.size()) !=
      Reader(bytes.last(kSum)).number<std::uint64_t>()) {
    return refuse(ErrorKind::kCorrupt, "checksum mismatch: the manifest is damaged");
  }
  SavedManifest manifest;
  Parser parser(content.subspan(kSavedHeadBytes));
  std::string algorithm;
  bool same_blocks = true;
  const char* wrong = parser.algorithm(algorithm);
  if (wrong == nullptr && algorithm != kBlockChecksumName) {
    return refuse(ErrorKind::kUnsupported, "its checksums are '" + algorithm.substr(0, 80) +
                                               "', this program knows '" +
                                               std::string(kBlockChecksumName) + "' only");
  }
  if (wrong == nullptr) wrong = parser.planes(manifest, same_blocks);
  if (wrong == nullptr && !same_blocks) {
    return refuse(ErrorKind::kUnsupported, "its checksums are of blocks of another size");
  }
  if (wrong == nullptr) wrong = parser.sizes(manifest);
  if (wrong == nullptr) wrong = parser.tiles(manifest);
  if (wrong != nullptr) {
    return refuse(ErrorKind::kCorrupt, "the manifest makes no sense: " + std::string(wrong));
  }
  return manifest;
}

}  // namespace spillway::swapper
