#include <spillway/aio/check.h>
#include <spillway/aio/free_space.h>
#include <spillway/aio/path_speed.h>
#include <spillway/aio/striped_file.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "stripe_manifest.h"
#include "striped_core.h"

namespace spillway::aio {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> invalid(const char* operation, std::string path, std::string detail) {
  return make_error(ErrorKind::kInvalid, operation, std::move(path), std::move(detail));
}

Engine& engine_of(const std::vector<Engine*>& engines, std::size_t member) {
  return *engines[engines.size() == 1 ? 0 : member];
}

Result<void> validate(const char* operation, const std::vector<Engine*>& engines,
                      const StripedLocation& location) {
  const std::size_t count = location.directories.size();
  if (count < 1 || count > StripeMap::kMaxMembers) {
    return invalid(operation, "", std::to_string(count) + " directories, must be 1 to 64");
  }
  SPILLWAY_CHECK(engines.size() == 1 || engines.size() == count,
                 "one Engine for all directories, or one for each");
  SPILLWAY_CHECK(std::ranges::find(engines, nullptr) == engines.end(), "an Engine is needed");
  if (location.name.empty() || location.name.find('/') != std::string::npos) {
    return invalid(operation, "", "the name of a striped file must be a file name");
  }
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      std::error_code unknown;
      if (!fs::equivalent(location.directories[i], location.directories[j], unknown)) continue;
      return invalid(operation, location.directories[i].string(),
                     "is the same directory as " + location.directories[j].string());
    }
  }
  return {};
}

Result<std::vector<double>> speeds_of(const std::vector<Engine*>& engines,
                                      const StripedLocation& location,
                                      const StripedCreateOptions& options) {
  const std::size_t count = location.directories.size();
  if (!options.speeds.empty()) {
    const bool sensible = std::ranges::all_of(
        options.speeds, [](double speed) { return std::isfinite(speed) && speed > 0; });
    if (options.speeds.size() == count && sensible) return options.speeds;
    return invalid("create", "", "speeds: must be positive, one for each directory");
  }
  std::vector<double> speeds;
  for (std::size_t i = 0; i < count && count > 1; ++i) {
    auto speed = measure_path_speed(engine_of(engines, i), location.directories[i]);
    if (!speed) return tl::unexpected(std::move(speed.error()));
    speeds.push_back(speed->mixed_bytes_per_second());
  }
  return count > 1 ? speeds : std::vector<double>{1};
}

// Directories of one filesystem share its space, and those of one project of it the project's
// limit.
Result<void> check_space(const StripedLocation& location, const StripeMap& map,
                         std::uint64_t size_bytes) {
  std::map<std::uint64_t, std::uint64_t> of_filesystem;  // bytes needed
  std::map<std::pair<std::uint64_t, std::uint32_t>, std::uint64_t> of_project;
  for (std::size_t i = 0; i < location.directories.size(); ++i) {
    const std::string path = location.directories[i].string();
    const auto space = free_space(path);
    if (!space) return tl::unexpected(space.error());
    const std::uint64_t bytes = member_file_bytes(map, i, size_bytes);
    const std::uint64_t wanted = of_filesystem[space->filesystem] += bytes;
    const std::uint64_t in_project = of_project[{space->filesystem, space->project}] += bytes;
    if (space->project != 0 && in_project > space->free_bytes) {
      return make_error(ErrorKind::kNoSpace, "create", path,
                        "the striped file takes " + std::to_string(in_project) +
                            " bytes of quota project " + std::to_string(space->project) +
                            ", free are " + std::to_string(space->free_bytes));
    }
    if (wanted <= space->filesystem_free_bytes) continue;
    return make_error(ErrorKind::kNoSpace, "create", path,
                      "the striped file takes " + std::to_string(wanted) +
                          " bytes of this filesystem, free are " +
                          std::to_string(space->filesystem_free_bytes));
  }
  return {};
}

std::string new_set() {
  std::array<unsigned char, 16> bytes{};
  // At most 256 bytes are never cut short, and never fail once the kernel is up (getrandom(2)).
  SPILLWAY_CHECK(::getrandom(bytes.data(), bytes.size(), 0) == 16, "the kernel has random bytes");
  std::string text;
  for (const unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

Result<void> write_manifest(Engine& engine, File& file, const StripeManifest& manifest) {
  Buffer buffer = Buffer::allocate(kStripeManifestBytes, kStripeManifestBytes);
  std::memset(buffer.data(), 0, kStripeManifestBytes);
  const std::string text = encode(manifest);
  std::memcpy(buffer.data(), text.data(), text.size());
  const Engine::Request request{.file = &file, .size_bytes = kStripeManifestBytes};
  auto written = engine.write(request, std::move(buffer)).wait().transferred;
  if (!written) return tl::unexpected(std::move(written.error()));
  return file.sync();
}

Result<StripeManifest> read_manifest(Engine& engine, const File& file) {
  auto size = file.size_bytes();
  if (!size) return tl::unexpected(std::move(size.error()));
  if (*size < kStripeHeadBytes) return decode_manifest("", file.path());
  const Engine::Request request{.file = &file, .size_bytes = kStripeManifestBytes};
  Completion read =
      engine.read(request, Buffer::allocate(kStripeManifestBytes, kStripeManifestBytes)).wait();
  if (!read.transferred) return tl::unexpected(std::move(read.transferred.error()));
  const auto* text = reinterpret_cast<const char*>(read.buffer.data());
  return decode_manifest({text, kStripeManifestBytes}, file.path());
}

// Else every stripe would begin and end within a page, and go through the page cache.
Result<void> check_alignment(const File& file, const StripeMap& map) {
  if (map.stripe_bytes() % file.offset_alignment() == 0) return {};
  return make_error(ErrorKind::kUnsupported, "open", file.path(),
                    "direct I/O moves blocks of " + std::to_string(file.offset_alignment()) +
                        " bytes here, and stripe_bytes is no multiple of that");
}

// The members' files, in order. On failure none is left.
Result<std::vector<File>> create_members(const std::vector<Engine*>& engines,
                                         const StripedLocation& location, StripeManifest manifest,
                                         const StripeMap& map, Direct direct) {
  std::vector<File> files;
  const auto create_all = [&]() -> Result<void> {
    for (std::size_t i = 0; i < location.directories.size(); ++i) {
      auto file = File::create(
          location.directories[i] / location.name,
          {.size_bytes = member_file_bytes(map, i, manifest.size_bytes), .direct = direct});
      if (!file) return tl::unexpected(std::move(file.error()));
      files.push_back(std::move(*file));
      if (auto fits = check_alignment(files.back(), map); !fits) return fits;
    }
    // Last, so that no set with a manifest in every member lacks its room.
    for (std::size_t i = 0; i < files.size(); ++i) {
      manifest.member = static_cast<std::uint32_t>(i);
      auto written = write_manifest(engine_of(engines, i), files[i], manifest);
      if (!written) return written;
    }
    return {};
  };
  auto created = create_all();
  if (created) return files;
  for (File& file : files) std::ignore = file.remove();
  return tl::unexpected(std::move(created.error()));
}

}  // namespace

Result<StripedFile> StripedFile::create(std::vector<Engine*> engines,
                                        const StripedLocation& location,
                                        const StripedCreateOptions& options) {
  if (auto valid = validate("create", engines, location); !valid) {
    return tl::unexpected(std::move(valid.error()));
  }
  if (options.size_bytes == 0 || options.size_bytes > std::uint64_t{1} << 60) {
    return invalid("create", "", "size_bytes: must be 1 byte to 1 EiB");
  }
  // Before anything is written, and before the speeds are known: even shares must be allowed.
  const std::vector<std::uint32_t> even(location.directories.size(), 1);
  if (auto map = StripeMap::create(options.stripe_bytes, even); !map) {
    return tl::unexpected(std::move(map.error()));
  }
  auto speeds = speeds_of(engines, location, options);
  if (!speeds) return tl::unexpected(std::move(speeds.error()));
  auto map = StripeMap::create(options.stripe_bytes, StripeMap::weights_of(*speeds));
  if (!map) return tl::unexpected(std::move(map.error()));
  if (auto fits = check_space(location, *map, options.size_bytes); !fits) {
    return tl::unexpected(std::move(fits.error()));
  }
  auto files = create_members(engines, location,
                              {.set = new_set(),
                               .stripe_bytes = map->stripe_bytes(),
                               .size_bytes = options.size_bytes,
                               .weights = map->weights()},
                              *map, options.direct);
  if (!files) return tl::unexpected(std::move(files.error()));
  return StripedFile(std::make_shared<StripedCore>(std::move(*map), options.size_bytes,
                                                   std::move(engines), std::move(*files)));
}

Result<StripedFile> StripedFile::open(std::vector<Engine*> engines, const StripedLocation& location,
                                      const OpenOptions& options) {
  if (auto valid = validate("open", engines, location); !valid) {
    return tl::unexpected(std::move(valid.error()));
  }
  std::vector<File> files;
  std::vector<std::string> paths;
  std::vector<StripeManifest> manifests;
  for (std::size_t i = 0; i < location.directories.size(); ++i) {
    auto file = File::open(location.directories[i] / location.name, options);
    if (!file) return tl::unexpected(std::move(file.error()));
    auto manifest = read_manifest(engine_of(engines, i), *file);
    if (!manifest) return tl::unexpected(std::move(manifest.error()));
    paths.push_back(file->path());
    files.push_back(std::move(*file));
    manifests.push_back(std::move(*manifest));
  }
  if (auto one_set = check_set(manifests, paths); !one_set) {
    return tl::unexpected(std::move(one_set.error()));
  }
  auto map = StripeMap::create(manifests.front().stripe_bytes, manifests.front().weights);
  if (!map) return tl::unexpected(std::move(map.error()));
  const std::uint64_t size_bytes = manifests.front().size_bytes;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (auto fits = check_alignment(files[i], *map); !fits) {
      return tl::unexpected(std::move(fits.error()));
    }
    auto there = files[i].size_bytes();
    if (!there) return tl::unexpected(std::move(there.error()));
    const std::uint64_t needed = member_file_bytes(*map, i, size_bytes);
    if (*there >= needed) continue;
    return invalid(
        "open", files[i].path(),
        "is cut off: has " + std::to_string(*there) + " bytes of " + std::to_string(needed));
  }
  return StripedFile(std::make_shared<StripedCore>(std::move(*map), size_bytes, std::move(engines),
                                                   std::move(files)));
}

StripedFile::StripedFile(std::shared_ptr<StripedCore> core) : core_(std::move(core)) {
  for (auto& member : core_->members()) member->engine->register_file(member->file);
}

StripedFile& StripedFile::operator=(StripedFile&& other) noexcept {
  core_.swap(other.core_);
  return *this;
}

StripedFile::~StripedFile() {
  if (core_ == nullptr) return;
  if (!core_->owner().is_here()) {
    // Its locks may be held for ever, and its memory is the parent's.
    [[maybe_unused]] const auto* const kept = new std::shared_ptr<StripedCore>(std::move(core_));
    return;
  }
  core_->cancel_all();
  for (auto& member : core_->members()) member->engine->unregister_file(member->file);
}

std::uint64_t StripedFile::size_bytes() const noexcept { return core_->size_bytes(); }
const StripeMap& StripedFile::map() const noexcept { return core_->map(); }

StripedTicket StripedFile::read(const Request& request, Buffer buffer) {
  return StripedTicket(core_->submit(Direction::kRead, request, std::move(buffer), nullptr, 2));
}

StripedTicket StripedFile::write(const Request& request, Buffer buffer) {
  return StripedTicket(core_->submit(Direction::kWrite, request, std::move(buffer), nullptr, 2));
}

void StripedFile::read(const Request& request, Buffer buffer, Engine::Callback callback) {
  SPILLWAY_CHECK(callback, "the callback is empty");
  core_->submit(Direction::kRead, request, std::move(buffer), std::move(callback), 1);
}

void StripedFile::write(const Request& request, Buffer buffer, Engine::Callback callback) {
  SPILLWAY_CHECK(callback, "the callback is empty");
  core_->submit(Direction::kWrite, request, std::move(buffer), std::move(callback), 1);
}

StripedTicket StripedFile::start(Direction direction, const Request& request, Buffer buffer,
                                 Engine::Callback callback) {
  SPILLWAY_CHECK(callback, "the callback is empty");
  return StripedTicket(
      core_->submit(direction, request, std::move(buffer), std::move(callback), 2));
}

Result<void> StripedFile::sync() {
  if (!core_->owner().is_here()) return tl::unexpected(core_->owner().error("sync"));
  for (auto& member : core_->members()) {
    if (auto synced = member->file.sync(); !synced) return synced;
  }
  return {};
}

Result<void> StripedFile::remove() {
  if (!core_->owner().is_here()) return tl::unexpected(core_->owner().error("remove"));
  Result<void> result;
  for (auto& member : core_->members()) {
    auto removed = member->file.remove();
    if (!removed && result) result = std::move(removed);
  }
  return result;
}

std::vector<StripedFile::MemberStats> StripedFile::stats() const {
  std::vector<MemberStats> stats;
  for (auto& member : core_->members()) {
    const std::size_t index = stats.size();
    stats.push_back({.path = member->file.path(),
                     .weight = core_->map().weights()[index],
                     .stored_bytes = core_->map().member_bytes(index, core_->size_bytes()),
                     .read_bytes = member->read_bytes.load(std::memory_order_relaxed),
                     .written_bytes = member->written_bytes.load(std::memory_order_relaxed)});
  }
  return stats;
}

}  // namespace spillway::aio
