// The manifest and the index of a checkpoint. Input: their texts without their seals, parted by
// 0xff. Sealed, they are an error with words in it, or within bounds and written as they were read;
// unsealed they are refused.
#include <spillway/aio/check.h>
#include <spillway/trainer/checkpoint_manifest.h>
#include "trainer/files/checksum.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer {
namespace {

std::string sealed(std::string text) {
  text += ",\n \"checksum\": \"";
  std::uint64_t checksum = checksum_of(std::as_bytes(std::span(text.data(), text.size())));
  std::string digits(16, '0');
  for (std::size_t i = 16; i-- > 0; checksum >>= 4) digits[i] = "0123456789abcdef"[checksum & 15];
  return text + digits + "\"\n}\n";
}

// Blocks of a size that a reader can hold, one value each, and all bytes in them.
void check_blocks(std::uint64_t bytes, std::uint64_t block_bytes, std::size_t values) {
  SPILLWAY_CHECK(block_bytes > 0 && block_bytes <= 16 << 20, "a block that is too large");
  SPILLWAY_CHECK(values == bytes / block_bytes + (bytes % block_bytes != 0), "other blocks");
}

void check_checksums(const CheckpointExtent& extent, const ShardIndex& index,
                     const CheckpointPlanes& planes) {
  for (std::size_t plane = 0; plane < extent.planes.size(); ++plane) {
    if (!index.files[extent.planes[plane].file].of_planes) continue;
    SPILLWAY_CHECK(!index.plane_checksum.empty() && plane < extent.checksums.size(),
                   "bytes without a checksum");
    const PlaneChecksums& checksums = extent.checksums[plane];
    check_blocks(plane_bytes(planes.all[plane], extent.elements), checksums.block_bytes,
                 checksums.values.size());
  }
}

void check_index(const ShardIndex& index, const CheckpointManifest& manifest) {
  const CheckpointPlanes planes = checkpoint_planes(manifest.format);
  for (const ShardFile& file : index.files) {
    if (!file.of_planes) check_blocks(file.size_bytes, kShardBlockBytes, file.checksums.size());
  }
  for (const CheckpointExtent& extent : index.extents) {
    SPILLWAY_CHECK(extent.planes.size() <= planes.all.size(), "planes that are none");
    for (std::size_t plane = 0; plane < extent.planes.size(); ++plane) {
      const PlanePlace& place = extent.planes[plane];
      SPILLWAY_CHECK(place.file < index.files.size(), "a file that is not there");
      const std::uint64_t size = index.files[place.file].size_bytes;
      SPILLWAY_CHECK(place.offset <= size &&
                         plane_bytes(planes.all[plane], extent.elements) <= size - place.offset,
                     "a plane out of its file");
    }
    check_checksums(extent, index, planes);
    for (const ExtentSegment& segment : extent.segments) {
      SPILLWAY_CHECK(segment.parameter < manifest.parameters.size(), "no such parameter");
      const std::uint64_t all = element_count(manifest.parameters[segment.parameter]);
      SPILLWAY_CHECK(segment.first <= all && segment.count <= all - segment.first &&
                         segment.offset <= extent.elements &&
                         segment.count <= extent.elements - segment.offset,
                     "a segment out of its parameter or extent");
    }
  }
}

}  // namespace
}  // namespace spillway::trainer

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::trainer;
  const std::string input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\xff'), input.size());
  const std::string text = input.substr(0, end);
  SPILLWAY_CHECK(!parse_manifest(text, "x"), "takes what has no seal");
  const auto manifest = parse_manifest(sealed(text), "x");
  if (!manifest) {
    SPILLWAY_CHECK(!manifest.error().detail.empty(), "an error without a reason");
    return 0;
  }
  const std::string written = to_text(*manifest);
  const auto again = parse_manifest(written, "x");
  SPILLWAY_CHECK(again && to_text(*again) == written, "written as something else");
  SPILLWAY_CHECK(manifest->shards.size() == manifest->world_size, "not a shard a rank");
  const auto index =
      parse_shard_index(sealed(input.substr(std::min(end + 1, input.size()))), "y", *manifest);
  if (!index) {
    SPILLWAY_CHECK(!index.error().detail.empty(), "an error without a reason");
    return 0;
  }
  check_index(*index, *manifest);
  const auto same = parse_shard_index(to_text(*index), "y", *manifest);
  SPILLWAY_CHECK(same && *same == *index, "written as something else");
  const auto covered = check_coverage(*manifest, std::span(&*index, 1), "x");
  SPILLWAY_CHECK(covered || !covered.error().detail.empty(), "an error without a reason");
  return 0;
}
