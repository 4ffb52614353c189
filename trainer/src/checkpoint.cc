#include <fcntl.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/checkpoint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <utility>

namespace spillway::trainer {
namespace {

constexpr std::size_t kKeptBlocks = 32;
constexpr std::uint64_t kMostTextBytes = std::uint64_t{4} << 30;

class OpenFile {
 public:
  OpenFile() = default;
  OpenFile(OpenFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), size_bytes_(other.size_bytes_) {}
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  // A regular file; not through a symbolic link, and without waiting for a pipe's other end.
  static Result<OpenFile> open(const std::filesystem::path& path) {
    OpenFile file;
    file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file.fd_ < 0) return errno_error("open", path.string(), errno);
    struct stat status {};
    if (::fstat(file.fd_, &status) != 0) return errno_error("stat", path.string(), errno);
    if (!S_ISREG(status.st_mode)) {
      return make_error(ErrorKind::kInvalid, "open", path.string(), "it is no regular file");
    }
    file.size_bytes_ = static_cast<std::uint64_t>(status.st_size);
    return file;
  }
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }

  Result<void> read(const std::filesystem::path& path, std::uint64_t offset,
                    std::span<std::byte> to) const {
    for (std::size_t got = 0; got < to.size();) {
      const ssize_t count =
          ::pread(fd_, to.data() + got, to.size() - got, static_cast<off_t>(offset + got));
      if (count < 0 && errno == EINTR) continue;
      if (count > 0) {
        got += static_cast<std::size_t>(count);
        continue;
      }
      auto failed = count < 0 ? errno_error("read", path.string(), errno)
                              : make_error(ErrorKind::kShortTransfer, "read", path.string(),
                                           "the file ends too early");
      failed.value().offset = offset;
      failed.value().wanted = to.size();
      failed.value().got = got;
      return failed;
    }
    return {};
  }

 private:
  int fd_ = -1;
  std::uint64_t size_bytes_ = 0;
};

Result<std::string> read_text(const std::filesystem::path& path) {
  auto file = OpenFile::open(path);
  if (!file) return tl::unexpected(file.error());
  if (file->size_bytes() > kMostTextBytes) {
    return make_error(ErrorKind::kInvalid, "read checkpoint", path.string(), "it is far too large");
  }
  std::string text(file->size_bytes(), '\0');
  auto read = file->read(path, 0, std::as_writable_bytes(std::span(text.data(), text.size())));
  if (!read) return tl::unexpected(read.error());
  return text;
}

struct ParameterRun {
  std::uint64_t first = 0;  // of the parameter
  Checkpoint::Run run;
};

struct KeptBlock {
  std::uint32_t shard = 0, file = 0;
  std::uint64_t number = 0;
  std::uint64_t used = 0;  // when, counted in reads
  std::vector<std::byte> bytes;
};

}  // namespace

struct Checkpoint::State {
  std::filesystem::path directory;
  CheckpointManifest manifest;
  CheckpointPlanes planes;
  std::vector<ShardIndex> shards;
  std::vector<std::vector<OpenFile>> files;     // of each shard
  std::vector<std::vector<ParameterRun>> runs;  // of each parameter, ascending
  std::vector<KeptBlock> kept;
  std::uint64_t reads = 0;

  std::filesystem::path path_of(std::uint32_t shard, std::uint32_t file) const {
    return directory / shards[shard].files[file].name;
  }
  Result<void> read_shards();
  Result<void> open_files(const ShardIndex& shard);
  void list_runs();
  Result<void> load_block(std::uint32_t shard, std::uint32_t file, std::uint64_t number,
                          std::vector<std::byte>* bytes) const;
  Result<const KeptBlock*> block(std::uint32_t shard, std::uint32_t file, std::uint64_t number);
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
    auto file = OpenFile::open(path);
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

Result<void> Checkpoint::State::load_block(std::uint32_t shard, std::uint32_t file,
                                           std::uint64_t number,
                                           std::vector<std::byte>* bytes) const {
  const ShardFile& entry = shards[shard].files[file];
  const std::uint64_t offset = number * kShardBlockBytes;
  bytes->resize(std::min(kShardBlockBytes, entry.size_bytes - offset));
  const std::filesystem::path path = path_of(shard, file);
  if (auto read = files[shard][file].read(path, offset, *bytes); !read) return read;
  if (checksum_of(*bytes) == entry.checksums[number]) return {};
  auto error = make_error(ErrorKind::kCorrupt, "read checkpoint", path.string(),
                          "the block of " + std::to_string(bytes->size()) + " bytes at " +
                              std::to_string(offset) + " is not what was written; it holds " +
                              contents_of(shard, file, offset, offset + bytes->size()));
  error.value().offset = offset;
  return error;
}

Result<const KeptBlock*> Checkpoint::State::block(std::uint32_t shard, std::uint32_t file,
                                                  std::uint64_t number) {
  ++reads;
  for (KeptBlock& candidate : kept) {
    if (candidate.number != number || candidate.file != file || candidate.shard != shard) continue;
    candidate.used = reads;
    return &candidate;
  }
  if (kept.size() < kKeptBlocks) kept.emplace_back();
  KeptBlock& place = *std::ranges::min_element(kept, {}, &KeptBlock::used);
  if (auto loaded = load_block(shard, file, number, &place.bytes); !loaded) {
    place.used = 0;
    place.number = ~std::uint64_t{0};  // what it held is gone
    return tl::unexpected(loaded.error());
  }
  place.shard = shard;
  place.file = file;
  place.number = number;
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
  const PlanePlace& place = source.planes[plane];
  std::uint64_t offset = place.offset + plane_bytes(format, first);
  for (std::uint64_t bytes = plane_bytes(format, count); bytes > 0;) {
    const auto block = state_->block(shard, place.file, offset / kShardBlockBytes);
    if (!block) return tl::unexpected(block.error());
    const std::uint64_t within = offset % kShardBlockBytes;
    const std::uint64_t taken = std::min(bytes, (*block)->bytes.size() - within);
    std::memcpy(to, (*block)->bytes.data() + within, taken);
    to += taken;
    offset += taken;
    bytes -= taken;
  }
  return {};
}

std::uint64_t Checkpoint::verify(const std::function<void(const Error&)>& bad,
                                 const std::function<void(std::uint64_t)>& checked) {
  std::uint64_t found = 0, bytes = 0;
  std::vector<std::byte> block;
  for (std::uint32_t shard = 0; shard < state_->shards.size(); ++shard) {
    for (std::uint32_t file = 0; file < state_->shards[shard].files.size(); ++file) {
      const std::size_t blocks = state_->shards[shard].files[file].checksums.size();
      for (std::uint64_t number = 0; number < blocks; ++number) {
        if (auto loaded = state_->load_block(shard, file, number, &block); !loaded) {
          ++found;
          bad(loaded.error());
        }
        bytes += block.size();
        if (checked) checked(bytes);
      }
    }
  }
  return found;
}

}  // namespace spillway::trainer
