#include "trainer/checkpoint/directory.h"

#include <spillway/pinned_pool/limits.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <system_error>

namespace spillway::trainer {

std::vector<std::uint64_t> superfluous(const std::vector<std::uint64_t>& steps,
                                       const KeepRule& keep) {
  std::vector<std::uint64_t> found;
  if (keep.newest == 0) return found;
  for (std::size_t i = 0; i + keep.newest < steps.size(); ++i) {
    if (keep.every == 0 || steps[i] % keep.every != 0) found.push_back(steps[i]);
  }
  return found;
}

std::uint64_t most_checkpoints(const std::vector<std::uint64_t>& present, const KeepRule& keep,
                               std::uint64_t interval, std::uint64_t done, std::uint64_t last) {
  if (last <= done) return present.size();
  std::uint64_t saves = interval == 0 ? 0 : last / interval - done / interval;
  if (interval == 0 || last % interval != 0) ++saves;
  const std::uint64_t all = present.size() + saves;
  if (keep.newest == 0) return all;
  std::uint64_t for_good = 0;
  if (keep.every > 0) {
    const std::uint64_t both = interval == 0 ? keep.every : std::lcm(interval, keep.every);
    for_good = last / both - done / both;
    for (const std::uint64_t step : present) for_good += step % keep.every == 0 ? 1 : 0;
  }
  return std::min(all, std::max<std::uint64_t>(present.size(), keep.newest + for_good) + 1);
}

Result<void> check_space(const std::filesystem::path& directory, std::uint64_t bytes,
                         const std::string& what) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0) {
    return errno_error("look for space", directory.string(), errno);
  }
  const std::uint64_t free = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (bytes <= free) return {};
  return make_error(ErrorKind::kNoSpace, "write checkpoint", directory.string(),
                    what + " needs " + pinned_pool::format_bytes(bytes) + ", " +
                        pinned_pool::format_bytes(free) + " are free");
}

Result<CheckpointDirectory> CheckpointDirectory::open(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return errno_error("create checkpoint directory", path.string(), error.value());
  CheckpointDirectory directory(path);
  auto lock = swapper::DirectoryLock::acquire(path);
  if (!lock) return tl::unexpected(lock.error());
  directory.lock_ = std::move(*lock);
  directory.remove_leftovers();
  return directory;
}

void CheckpointDirectory::remove_leftovers() {
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path_, ignored)) {
    const std::filesystem::path& path = entry.path();
    if (path.extension() != kUnfinishedSuffix || !entry.is_directory(ignored)) continue;
    if (step_of_name(path.stem().string())) found.push_back(path);
  }
  std::ranges::sort(found);
  for (const std::filesystem::path& path : found) {
    notes_.push_back(remove_checkpoint(path)
                         ? "removed " + path.string() + ", which a killed run left unfinished"
                         : "left " + path.string() + ": it holds files that are no checkpoint's");
  }
}

Result<std::vector<std::string>> CheckpointDirectory::set_aside_newer_than(std::uint64_t step,
                                                                           CheckpointFiles& files) {
  std::vector<std::string> lines;
  for (const std::uint64_t newer : list_checkpoints(path_)) {
    if (newer <= step) continue;
    const std::filesystem::path from = path_ / checkpoint_name(newer);
    const std::filesystem::path to = from.string() + kSetAsideSuffix;
    if (auto renamed = files.rename(from, to); !renamed) return tl::unexpected(renamed.error());
    lines.push_back("set aside " + from.string() + " as " + to.filename().string() +
                    ": this run goes on from step " + std::to_string(step));
  }
  if (lines.empty()) return lines;
  if (auto synced = files.sync_directory(path_); !synced) return tl::unexpected(synced.error());
  return lines;
}

Result<void> CheckpointDirectory::prune(const KeepRule& keep, CheckpointFiles& files) {
  for (const std::uint64_t step : superfluous(list_checkpoints(path_), keep)) {
    const std::filesystem::path from = path_ / checkpoint_name(step);
    const std::filesystem::path to = from.string() + kUnfinishedSuffix;
    if (auto renamed = files.rename(from, to); !renamed) return renamed;
    remove_checkpoint(to);
  }
  return {};
}

}  // namespace spillway::trainer
