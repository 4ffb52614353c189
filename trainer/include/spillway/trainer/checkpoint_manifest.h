// CheckpointManifest and ShardIndex: what a checkpoint's JSON files say (docs/format.md).
//
// A checkpoint's bytes are planes of extents, runs of elements as a rank's tiles had them; segments
// say which elements of which parameter they are. So a reader needs to know nothing of tiles, ranks
// or places. Both texts end with their own checksum ("sealed"), are checked against it before they
// are parsed, and every number in them is checked before it is used. No torch, no I/O.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/config_types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::trainer {

inline constexpr std::uint64_t kCheckpointVersion = 2;  // 1 is read, too
inline constexpr const char* kManifestName = "manifest.json";
// What one checksum of a shard's file is of.
inline constexpr std::uint64_t kShardBlockBytes = std::uint64_t{256} << 10;

struct CheckpointParameter {
  std::string name;  // with its unit's: "transformer.h.3.attn.c_attn.weight"
  std::vector<std::int64_t> shape;
  bool frozen = false;
  bool operator==(const CheckpointParameter&) const = default;
};
// Returns the product of `shape`.
std::uint64_t element_count(const CheckpointParameter& parameter);

// A rank's index, which names its files: its size and the checksum it is sealed with.
struct CheckpointShard {
  std::string index;  // plain file name, as all here
  std::uint64_t size_bytes = 0;
  std::uint64_t checksum = 0;
  bool operator==(const CheckpointShard&) const = default;
};

struct CheckpointManifest {
  std::uint64_t step = 0;  // steps done
  std::uint64_t seed = 0;  // with `step`, all that data order, dropout and rounding derive from
  std::uint64_t samples_seen = 0;
  std::uint32_t world_size = 1;  // ranks that wrote it
  OptimizerFormat format;        // `gradients` is no part of it
  std::string model;             // a JSON object, as the model's family has it; empty: of no family
  std::map<std::string, std::string> training;  // facts to compare with a resumed run, for messages
  std::vector<CheckpointParameter> parameters;
  std::vector<CheckpointShard> shards;  // one a rank
};

struct ShardFile {
  std::string name;
  std::uint64_t size_bytes = 0;
  std::vector<std::uint64_t> checksums;  // XXH3, 64 bits, of each kShardBlockBytes
  bool of_planes = false;                // it has none: those of the planes in it are with them
  bool operator==(const ShardFile&) const = default;
};

// Elements [first, first + count) of a parameter are those of the extent from `offset` on.
struct ExtentSegment {
  std::uint32_t parameter = 0;  // its number in the manifest
  std::uint64_t first = 0;
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
  bool operator==(const ExtentSegment&) const = default;
};

struct PlanePlace {
  std::uint32_t file = 0;    // its number in the index
  std::uint64_t offset = 0;  // bytes
  bool operator==(const PlanePlace&) const = default;
};

// The checksums of a plane in a file that has none: as a tile store made them, whose tile it was.
struct PlaneChecksums {
  std::uint32_t tile = 0;
  std::uint32_t plane = 0;  // of the store's tiles
  std::uint32_t generation = 0;
  std::uint64_t block_bytes = 0;
  std::vector<std::uint64_t> values;  // of each block of the plane
  bool operator==(const PlaneChecksums&) const = default;
};

// A run of elements; what no segment covers is padding.
struct CheckpointExtent {
  std::uint64_t elements = 0;
  std::vector<ExtentSegment> segments;
  std::vector<PlanePlace> planes;  // in order; of frozen parameters the weights' alone
  // Of each plane, without values where the file has them; empty where all files have them.
  std::vector<PlaneChecksums> checksums = {};
  bool operator==(const CheckpointExtent&) const = default;
};

struct ShardIndex {
  std::uint32_t rank = 0;
  std::string plane_checksum = {};  // the name of what PlaneChecksums are, where there are any
  std::vector<ShardFile> files;
  std::vector<CheckpointExtent> extents;
  bool operator==(const ShardIndex&) const = default;
};

// "AdamW", "bf16", "int8": as the configuration has them.
const char* to_string(OptimizerKind kind);
const char* to_string(Dtype dtype);
const char* to_string(StateDtype dtype);

// Return the sealed JSON text.
std::string to_text(const CheckpointManifest& manifest);
std::string to_text(const ShardIndex& index);
// Read a sealed JSON text. `name` is what errors call it: kCorrupt if the text does not have its
// checksum, kUnsupported for another version of the format, kInvalid if what it says cannot be.
Result<CheckpointManifest> parse_manifest(std::string_view text, const std::string& name);
// The same; parameters and places are within the bounds of `manifest`.
Result<ShardIndex> parse_shard_index(std::string_view text, const std::string& name,
                                     const CheckpointManifest& manifest);
// The checksum a text is sealed with. REQUIRES: of to_text.
std::uint64_t seal_of(std::string_view text);
// All segments together are every element of every parameter, once; kInvalid names one that is not.
Result<void> check_coverage(const CheckpointManifest& manifest, std::span<const ShardIndex> shards,
                            const std::string& name);

}  // namespace spillway::trainer
