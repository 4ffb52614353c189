#include <spillway/aio/check.h>
#include <spillway/swapper/block_checksum.h>
#include <spillway/trainer/checkpoint.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "trainer/files/checksum.h"
#include "trainer/files/saved_file.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer {
namespace {

constexpr std::size_t kKeptBlocks = 32;

struct ParameterRun {
  std::uint64_t first = 0;  // of the parameter
  Checkpoint::Run run;
};

// Bytes that one checksum is of.
struct Block {
  std::uint32_t shard = 0, file = 0;
  std::uint64_t offset = 0;
  std::size_t size_bytes = 0;
  std::uint64_t checksum = 0;
  // Of a plane in a file that has no checksums of its own.
  swapper::BlockChecksum of_plane = nullptr;
  swapper::BlockIdentity identity = {};

  // Planes of a hostile index may begin at one byte and be cut into blocks of other sizes.
  bool is(const Block& other) const {
    return offset == other.offset && size_bytes == other.size_bytes && file == other.file &&
           shard == other.shard && checksum == other.checksum;
  }
  bool matches(std::span<const std::byte> bytes) const {
    return checksum == (of_plane != nullptr ? of_plane(identity, bytes) : checksum_of(bytes));
  }
};

struct KeptBlock {
  Block block;
  std::uint64_t used = 0;  // when, counted in reads; 0: it holds nothing
  std::vector<std::byte> bytes;
};

}  // namespace

struct Checkpoint::State {
  std::filesystem::path directory;
  CheckpointManifest manifest;
  CheckpointPlanes planes;
  std::vector<ShardIndex> shards;
  std::vector<std::vector<SavedFile>> files;    // of each shard
  std::vector<std::vector<ParameterRun>> runs;  // of each parameter, ascending
  std::vector<KeptBlock> kept;
  std::uint64_t reads = 0;

  std::filesystem::path path_of(std::uint32_t shard, std::uint32_t file) const {
    return directory / shards[shard].files[file].name;
  }
  Result<void> read_shards();
  Result<void> open_files(const ShardIndex& shard);
  void list_runs();
  Block file_block(std::uint32_t shard, std::uint32_t file, std::uint64_t number) const;
  Block plane_block(std::uint32_t shard, std::uint32_t extent, std::uint32_t plane,
                    std::uint64_t number) const;
  // The block that has a byte of an extent's plane.
  Block block_at(std::uint32_t shard, std::uint32_t extent, std::uint32_t plane,
                 std::uint64_t byte) const;
  template <typename Visit>
  void for_each_block(std::uint32_t shard, const Visit& visit) const;
  Result<void> load_block(const Block& block, std::vector<std::byte>* bytes) const;
  Result<const KeptBlock*> keep_block(const Block& block);
  std::string contents_of(std::uint32_t shard, std::uint32_t file, std::uint64_t begin,
                          std::uint64_t end) const;
};

Result<void> Checkpoint::State::read_shards() {
  for (const CheckpointShard& shard : manifest.shards) {
    const std::filesystem::path path = directory / shard.index;
    const auto text = read_text(path);
    if (!text) return tl::unexpected(text.error());
    auto index = parse_shard_index(*text, path.string(), manifest);
    if (!index) return tl::unexpected(index.error());
    if (text->size() != shard.size_bytes || seal_of(*text) != shard.checksum) {
      return make_error(ErrorKind::kCorrupt, "read checkpoint", path.string(),
                        "it is not the index that the manifest names");
    }
    if (index->rank != shards.size()) {
      return make_error(ErrorKind::kInvalid, "read checkpoint", path.string(),
                        "it is the index of another rank");
    }
    if (auto opened = open_files(*index); !opened) return opened;
    shards.push_back(std::move(*index));
  }
  return check_coverage(manifest, shards, (directory / kManifestName).string());
}

Result<void> Checkpoint::State::open_files(const ShardIndex& shard) {
  files.emplace_back();
  for (const ShardFile& entry : shard.files) {
    const std::filesystem::path path = directory / entry.name;
    auto file = SavedFile::open(path);
    if (!file) return tl::unexpected(file.error());
    if (file->size_bytes() != entry.size_bytes) {
      return make_error(ErrorKind::kCorrupt, "read checkpoint", path.string(),
                        "it has " + std::to_string(file->size_bytes()) + " bytes and must have " +
                            std::to_string(entry.size_bytes));
    }
    files.back().push_back(std::move(*file));
  }
  return {};
}

void Checkpoint::State::list_runs() {
  runs.resize(manifest.parameters.size());
  for (std::uint32_t s = 0; s < shards.size(); ++s) {
    for (std::uint32_t e = 0; e < shards[s].extents.size(); ++e) {
      for (const ExtentSegment& segment : shards[s].extents[e].segments) {
        runs[segment.parameter].push_back({segment.first, {s, e, segment.offset, segment.count}});
      }
    }
  }
  for (auto& list : runs) std::ranges::sort(list, {}, &ParameterRun::first);
}

// "exp_avg of transformer.h.0.ln_1.weight, ...": whose bytes these are.
std::string Checkpoint::State::contents_of(std::uint32_t shard, std::uint32_t file,
                                           std::uint64_t begin, std::uint64_t end) const {
  constexpr std::size_t kNamed = 4;
  std::vector<std::string> found;
  for (const CheckpointExtent& extent : shards[shard].extents) {
    for (std::size_t p = 0; p < extent.planes.size(); ++p) {
      const swapper::Plane& plane = planes.all[p];
      for (const ExtentSegment& segment : extent.segments) {
        if (extent.planes[p].file != file) continue;
        const std::uint64_t first = extent.planes[p].offset + segment.offset /
                                                                  plane.elements_per_block *
                                                                  plane.bytes_per_block;
        const std::uint64_t last =
            extent.planes[p].offset + plane_bytes(plane, segment.offset + segment.count);
        if (first >= end || last <= begin) continue;
        found.push_back(plane.name + " of " + manifest.parameters[segment.parameter].name);
      }
    }
  }
  std::string text;
  for (std::size_t i = 0; i < std::min(found.size(), kNamed); ++i) {
    text += (i == 0 ? "" : ", ") + found[i];
  }
  if (found.size() > kNamed) text += " and " + std::to_string(found.size() - kNamed) + " more";
  return found.empty() ? "padding" : text;
}

Block Checkpoint::State::file_block(std::uint32_t shard, std::uint32_t file,
                                    std::uint64_t number) const {
  const ShardFile& entry = shards[shard].files[file];
  const std::uint64_t offset = number * kShardBlockBytes;
  return {.shard = shard,
          .file = file,
          .offset = offset,
          .size_bytes = std::min(kShardBlockBytes, entry.size_bytes - offset),
          .checksum = entry.checksums[number]};
}

Block Checkpoint::State::plane_block(std::uint32_t shard, std::uint32_t extent, std::uint32_t plane,
                                     std::uint64_t number) const {
  const CheckpointExtent& source = shards[shard].extents[extent];
  const PlaneChecksums& checksums = source.checksums[plane];
  const std::uint64_t start = number * checksums.block_bytes;
  const std::uint64_t left = plane_bytes(planes.all[plane], source.elements) - start;
  return {.shard = shard,
          .file = source.planes[plane].file,
          .offset = source.planes[plane].offset + start,
          .size_bytes = std::min(checksums.block_bytes, left),
          .checksum = checksums.values[number],
          .of_plane = swapper::find_block_checksum(shards[shard].plane_checksum),
          .identity = {.tile = checksums.tile,
                       .plane = checksums.plane,
                       .generation = checksums.generation,
                       .block = number}};
}

Block Checkpoint::State::block_at(std::uint32_t shard, std::uint32_t extent, std::uint32_t plane,
                                  std::uint64_t byte) const {
  const CheckpointExtent& source = shards[shard].extents[extent];
  const PlanePlace& place = source.planes[plane];
  if (!shards[shard].files[place.file].of_planes) {
    return file_block(shard, place.file, (place.offset + byte) / kShardBlockBytes);
  }
  return plane_block(shard, extent, plane, byte / source.checksums[plane].block_bytes);
}

template <typename Visit>
void Checkpoint::State::for_each_block(std::uint32_t shard, const Visit& visit) const {
  const ShardIndex& index = shards[shard];
  for (std::uint32_t file = 0; file < index.files.size(); ++file) {
    const std::size_t blocks = index.files[file].checksums.size();
    for (std::uint64_t number = 0; number < blocks; ++number) {
      visit(file_block(shard, file, number));
    }
  }
  for (std::uint32_t extent = 0; extent < index.extents.size(); ++extent) {
    const std::vector<PlaneChecksums>& planes_of = index.extents[extent].checksums;
    for (std::uint32_t plane = 0; plane < planes_of.size(); ++plane) {
      for (std::uint64_t number = 0; number < planes_of[plane].values.size(); ++number) {
        visit(plane_block(shard, extent, plane, number));
      }
    }
  }
}

Result<void> Checkpoint::State::load_block(const Block& block,
                                           std::vector<std::byte>* bytes) const {
  bytes->resize(block.size_bytes);
  const std::filesystem::path path = path_of(block.shard, block.file);
  const SavedFile& file = files[block.shard][block.file];
  if (auto read = file.read(path, block.offset, *bytes); !read) return read;
  if (block.matches(*bytes)) return {};
  const std::uint64_t end = block.offset + block.size_bytes;
  auto error = make_error(ErrorKind::kCorrupt, "read checkpoint", path.string(),
                          "the block of " + std::to_string(block.size_bytes) + " bytes at " +
                              std::to_string(block.offset) + " is not what was written; it holds " +
                              contents_of(block.shard, block.file, block.offset, end));
  error.value().offset = block.offset;
  return error;
}

Result<const KeptBlock*> Checkpoint::State::keep_block(const Block& block) {
  ++reads;
  for (KeptBlock& candidate : kept) {
    if (candidate.used == 0 || !candidate.block.is(block)) continue;
    candidate.used = reads;
    return &candidate;
  }
  if (kept.size() < kKeptBlocks) kept.emplace_back();
  KeptBlock& place = *std::ranges::min_element(kept, {}, &KeptBlock::used);
  place.used = 0;  // what it held is gone
  if (auto loaded = load_block(block, &place.bytes); !loaded) {
    return tl::unexpected(loaded.error());
  }
  place.block = block;
  place.used = reads;
  return &place;
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& directory) {
  auto state = std::make_unique<State>();
  state->directory = directory;
  const std::filesystem::path path = directory / kManifestName;
  const auto text = read_text(path);
  if (!text) return tl::unexpected(text.error());
  auto manifest = parse_manifest(*text, path.string());
  if (!manifest) return tl::unexpected(manifest.error());
  state->manifest = std::move(*manifest);
  state->planes = checkpoint_planes(state->manifest.format);
  if (auto read = state->read_shards(); !read) return tl::unexpected(read.error());
  state->list_runs();
  return Checkpoint(std::move(state));
}

const std::filesystem::path& Checkpoint::directory() const noexcept { return state_->directory; }
const CheckpointManifest& Checkpoint::manifest() const noexcept { return state_->manifest; }
const CheckpointPlanes& Checkpoint::planes() const noexcept { return state_->planes; }
const std::vector<ShardIndex>& Checkpoint::shards() const noexcept { return state_->shards; }

std::uint64_t Checkpoint::parameter_bytes(std::uint32_t number) const {
  const CheckpointParameter& parameter = state_->manifest.parameters[number];
  const CheckpointPlanes& planes = state_->planes;
  std::uint64_t bytes = 0;
  for (std::size_t plane = 0; plane < planes.all.size(); ++plane) {
    if (parameter.frozen && plane >= planes.weight_count) break;
    bytes += plane_bytes(planes.all[plane], element_count(parameter));
  }
  return bytes;
}

std::uint64_t Checkpoint::size_bytes() const {
  std::uint64_t bytes = 0;
  for (const CheckpointShard& shard : state_->manifest.shards) bytes += shard.size_bytes;
  for (const ShardIndex& shard : state_->shards) {
    for (const ShardFile& file : shard.files) bytes += file.size_bytes;
  }
  return bytes;
}

std::vector<Checkpoint::Run> Checkpoint::find(std::uint32_t parameter, std::uint64_t first,
                                              std::uint64_t count) const {
  const std::vector<ParameterRun>& all = state_->runs[parameter];
  auto next = std::ranges::upper_bound(all, first, {}, &ParameterRun::first);
  std::vector<Run> found;
  if (next != all.begin()) --next;
  for (; count > 0; ++next) {
    SPILLWAY_CHECK(next != all.end(), "the elements are within the parameter");
    const std::uint64_t skip = first - next->first;
    const std::uint64_t taken = std::min(count, next->run.count - skip);
    Run run = next->run;
    run.offset += skip;
    run.count = taken;
    found.push_back(run);
    first += taken;
    count -= taken;
  }
  return found;
}

Result<void> Checkpoint::read(std::uint32_t shard, std::uint32_t extent, std::uint32_t plane,
                              std::uint64_t first, std::uint64_t count, std::byte* to) {
  const CheckpointExtent& source = state_->shards[shard].extents[extent];
  const swapper::Plane& format = state_->planes.all[plane];
  SPILLWAY_CHECK(plane < source.planes.size() && first % format.elements_per_block == 0 &&
                     first <= source.elements && count <= source.elements - first,
                 "what is read is within the extent, from a block of the plane on");
  std::uint64_t at = plane_bytes(format, first);  // from the start of the plane
  for (std::uint64_t bytes = plane_bytes(format, count); bytes > 0;) {
    const auto kept = state_->keep_block(state_->block_at(shard, extent, plane, at));
    if (!kept) return tl::unexpected(kept.error());
    const std::uint64_t within = source.planes[plane].offset + at - (*kept)->block.offset;
    const std::uint64_t taken = std::min(bytes, (*kept)->bytes.size() - within);
    std::memcpy(to, (*kept)->bytes.data() + within, taken);
    to += taken;
    at += taken;
    bytes -= taken;
  }
  return {};
}

std::uint64_t Checkpoint::verify(const std::function<void(const Error&)>& bad,
                                 const std::function<void(std::uint64_t)>& checked) {
  std::uint64_t found = 0, bytes = 0;
  std::vector<std::byte> buffer;
  const auto check = [&](const Block& block) {
    if (auto loaded = state_->load_block(block, &buffer); !loaded) {
      ++found;
      bad(loaded.error());
    }
    bytes += block.size_bytes;
    if (checked) checked(bytes);
  };
  for (std::uint32_t shard = 0; shard < state_->shards.size(); ++shard) {
    state_->for_each_block(shard, check);
  }
  return found;
}

}  // namespace spillway::trainer
