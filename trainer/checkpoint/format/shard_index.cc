#include <spillway/swapper/block_checksum.h>
#include <spillway/trainer/checkpoint_manifest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "trainer/files/sealed_json.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer {
namespace {

using nlohmann::ordered_json;

constexpr const char* kIndexKind = "spillway shard index";
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 60;
constexpr std::uint64_t kMostElements = std::uint64_t{1} << 48;

// A reader holds whole blocks in memory.
constexpr std::uint64_t kMostBlockBytes = std::uint64_t{16} << 20;

std::uint64_t block_count(std::uint64_t bytes, std::uint64_t block_bytes = kShardBlockBytes) {
  return bytes / block_bytes + (bytes % block_bytes != 0 ? 1 : 0);
}

std::vector<std::uint64_t> read_checksums(const ordered_json& json, const char* key,
                                          JsonFields& fields) {
  std::vector<std::uint64_t> values;
  // What is allocated follows what is there, not what the text says of sizes.
  for (const ordered_json& value : fields.array(json, key)) values.push_back(fields.hex(value));
  return values;
}

ordered_json json_of(const std::vector<std::uint64_t>& checksums) {
  ordered_json json = ordered_json::array();
  for (const std::uint64_t checksum : checksums) json.push_back(hex_of(checksum));
  return json;
}

ShardFile read_file_entry(const ordered_json& json, JsonFields& fields) {
  ShardFile file{fields.file_name(json, "name"), fields.number(json, "size_bytes", kMostBytes), {}};
  file.of_planes = json.is_object() && !json.contains("checksums");
  if (file.of_planes) return file;
  file.checksums = read_checksums(json, "checksums", fields);
  if (file.checksums.size() != block_count(file.size_bytes)) {
    fields.refuse("'" + file.name + "' has not one checksum for each block");
  }
  return file;
}

class ExtentReader {
 public:
  ExtentReader(const CheckpointManifest& manifest, const std::vector<ShardFile>& files,
               JsonFields& fields)
      : manifest_(manifest),
        files_(files),
        planes_(checkpoint_planes(manifest.format)),
        fields_(fields) {}

  CheckpointExtent read(const ordered_json& json) {
    CheckpointExtent extent;
    extent.elements = fields_.number(json, "elements", kMostElements);
    for (const ordered_json& segment : fields_.array(json, "segments")) {
      extent.segments.push_back(read_segment(segment, extent.elements));
    }
    for (const ordered_json& place : fields_.array(json, "planes")) {
      extent.planes.push_back(read_place(place, extent));
    }
    if (json.is_object() && json.contains("checksums")) {
      for (const ordered_json& checksums : fields_.array(json, "checksums")) {
        extent.checksums.push_back(read_plane_checksums(checksums, extent));
      }
    }
    if (!fields_.good()) return extent;
    check_checksums(extent);
    for (const ExtentSegment& segment : extent.segments) {
      const bool frozen = manifest_.parameters[segment.parameter].frozen;
      if (extent.planes.size() != (frozen ? planes_.weight_count : planes_.all.size())) {
        fields_.refuse("an extent has not the planes of its parameters");
      }
    }
    return extent;
  }

 private:
  ExtentSegment read_segment(const ordered_json& json, std::uint64_t elements) {
    ExtentSegment segment;
    segment.parameter = static_cast<std::uint32_t>(fields_.element(json, 0, 0xffffffffu));
    segment.first = fields_.element(json, 1, kMostElements);
    segment.offset = fields_.element(json, 2, kMostElements);
    segment.count = fields_.element(json, 3, kMostElements);
    if (segment.parameter >= manifest_.parameters.size()) {
      fields_.refuse("a segment is of a parameter that is not there");
      return segment;
    }
    const std::uint64_t all = element_count(manifest_.parameters[segment.parameter]);
    if (segment.count == 0 || segment.first > all || segment.count > all - segment.first ||
        segment.offset > elements || segment.count > elements - segment.offset) {
      fields_.refuse("a segment reaches out of its parameter or extent");
    }
    return segment;
  }

  PlanePlace read_place(const ordered_json& json, const CheckpointExtent& extent) {
    PlanePlace place;
    place.file = static_cast<std::uint32_t>(fields_.element(json, 0, 0xffffffffu));
    place.offset = fields_.element(json, 1, kMostBytes);
    const std::size_t plane = extent.planes.size();
    if (place.file >= files_.size() || plane >= planes_.all.size()) {
      fields_.refuse("an extent has a plane too many, or in a file that is not there");
      return place;
    }
    const std::uint64_t size = files_[place.file].size_bytes;
    if (place.offset > size ||
        plane_bytes(planes_.all[plane], extent.elements) > size - place.offset) {
      fields_.refuse("a plane reaches out of '" + files_[place.file].name + "'");
    }
    return place;
  }

  PlaneChecksums read_plane_checksums(const ordered_json& json, const CheckpointExtent& extent) {
    PlaneChecksums checksums;
    if (json.is_null()) return checksums;
    constexpr std::uint64_t kMost = 0xffffffffu;
    checksums.tile = static_cast<std::uint32_t>(fields_.number(json, "tile", kMost));
    checksums.plane = static_cast<std::uint32_t>(fields_.number(json, "plane", kMost));
    checksums.generation = static_cast<std::uint32_t>(fields_.number(json, "generation", kMost));
    checksums.block_bytes = fields_.number(json, "block_bytes", kMostBlockBytes);
    checksums.values = read_checksums(json, "values", fields_);
    const std::size_t plane = extent.checksums.size();
    if (!fields_.good() || checksums.block_bytes == 0 || plane >= extent.planes.size() ||
        checksums.values.size() !=
            block_count(plane_bytes(planes_.all[plane], extent.elements), checksums.block_bytes)) {
      fields_.refuse("a plane has not one checksum for each block");
    }
    return checksums;
  }

  // No byte of a plane is without a checksum.
  void check_checksums(const CheckpointExtent& extent) {
    if (!extent.checksums.empty() && extent.checksums.size() != extent.planes.size()) {
      fields_.refuse("an extent has not the checksums of its planes");
      return;
    }
    for (std::size_t plane = 0; plane < extent.planes.size(); ++plane) {
      const bool own = !extent.checksums.empty() && extent.checksums[plane].block_bytes > 0;
      if (own == files_[extent.planes[plane].file].of_planes) continue;
      fields_.refuse("a plane in '" + files_[extent.planes[plane].file].name +
                     "' has no checksums, or two");
    }
  }

  const CheckpointManifest& manifest_;
  const std::vector<ShardFile>& files_;
  CheckpointPlanes planes_;
  JsonFields& fields_;
};

ordered_json json_of(const CheckpointExtent& extent) {
  ordered_json segments = ordered_json::array();
  for (const ExtentSegment& segment : extent.segments) {
    segments.push_back(
        ordered_json::array({segment.parameter, segment.first, segment.offset, segment.count}));
  }
  ordered_json planes = ordered_json::array();
  for (const PlanePlace& place : extent.planes) {
    planes.push_back(ordered_json::array({place.file, place.offset}));
  }
  ordered_json json{{"elements", extent.elements}, {"segments", segments}, {"planes", planes}};
  for (const PlaneChecksums& checksums : extent.checksums) {
    json["checksums"].push_back(checksums.block_bytes == 0
                                    ? ordered_json()
                                    : ordered_json{{"tile", checksums.tile},
                                                   {"plane", checksums.plane},
                                                   {"generation", checksums.generation},
                                                   {"block_bytes", checksums.block_bytes},
                                                   {"values", json_of(checksums.values)}});
  }
  return json;
}

}  // namespace

std::string to_text(const ShardIndex& index) {
  ordered_json json{{"kind", kIndexKind},
                    {"rank", index.rank},
                    {"block_bytes", kShardBlockBytes},
                    {"files", ordered_json::array()},
                    {"extents", ordered_json::array()}};
  if (!index.plane_checksum.empty()) json["plane_checksum"] = index.plane_checksum;
  for (const ShardFile& file : index.files) {
    ordered_json entry{{"name", file.name}, {"size_bytes", file.size_bytes}};
    if (!file.of_planes) entry["checksums"] = json_of(file.checksums);
    json["files"].push_back(std::move(entry));
  }
  for (const CheckpointExtent& extent : index.extents) json["extents"].push_back(json_of(extent));
  return seal(json);
}

Result<ShardIndex> parse_shard_index(std::string_view text, const std::string& name,
                                     const CheckpointManifest& manifest) {
  auto unsealed = unseal(text, name);
  if (!unsealed) return tl::unexpected(unsealed.error());
  const ordered_json& json = *unsealed;
  JsonFields fields(name);
  if (fields.text(json, "kind") != kIndexKind) fields.refuse("it is no index of a shard");
  ShardIndex index;
  index.rank = static_cast<std::uint32_t>(fields.number(json, "rank", manifest.world_size - 1));
  if (fields.number(json, "block_bytes", kMostBytes) != kShardBlockBytes) {
    fields.refuse("'block_bytes' must be " + std::to_string(kShardBlockBytes));
  }
  if (json.contains("plane_checksum")) {
    index.plane_checksum = fields.text(json, "plane_checksum");
    if (fields.good() && swapper::find_block_checksum(index.plane_checksum) == nullptr) {
      return make_error(ErrorKind::kUnsupported, "read checkpoint", name,
                        "checksums '" + index.plane_checksum + "' are not known to this program");
    }
  }
  std::set<std::string> names;
  for (const ordered_json& file : fields.array(json, "files")) {
    index.files.push_back(read_file_entry(file, fields));
    if (!names.insert(index.files.back().name).second) fields.refuse("a file is there twice");
    if (index.files.back().of_planes && index.plane_checksum.empty()) {
      fields.refuse("'" + index.files.back().name + "' has no checksums");
    }
  }
  ExtentReader extents(manifest, index.files, fields);
  for (const ordered_json& extent : fields.array(json, "extents")) {
    if (!fields.good()) break;
    index.extents.push_back(extents.read(extent));
  }
  if (auto outcome = fields.outcome(); !outcome) return tl::unexpected(outcome.error());
  return index;
}

Result<void> check_coverage(const CheckpointManifest& manifest, std::span<const ShardIndex> shards,
                            const std::string& name) {
  std::vector<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>> runs;
  for (const ShardIndex& shard : shards) {
    for (const CheckpointExtent& extent : shard.extents) {
      for (const ExtentSegment& segment : extent.segments) {
        runs.emplace_back(segment.parameter, segment.first, segment.count);
      }
    }
  }
  std::ranges::sort(runs);
  std::size_t next = 0;
  for (std::uint32_t parameter = 0; parameter < manifest.parameters.size(); ++parameter) {
    std::uint64_t covered = 0;
    for (; next < runs.size() && std::get<0>(runs[next]) == parameter; ++next) {
      if (std::get<1>(runs[next]) != covered) break;
      covered += std::get<2>(runs[next]);
    }
    const bool more = next < runs.size() && std::get<0>(runs[next]) == parameter;
    if (!more && covered == element_count(manifest.parameters[parameter])) continue;
    return make_error(ErrorKind::kInvalid, "read checkpoint", name,
                      "parameter '" + manifest.parameters[parameter].name +
                          "': its elements are not all there once, from element " +
                          std::to_string(covered) + " on");
  }
  return {};
}

}  // namespace spillway::trainer
