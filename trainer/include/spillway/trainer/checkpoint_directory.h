// CheckpointDirectory: the checkpoints of a run in one directory: which are there, which goes next,
// and what a killed run left.
//
// D/step-00000042 is a complete checkpoint: it got this name when all of it was durable.
// D/step-00000042.tmp is one that is being written, or was when its run was killed.
// D/step-00000042.set-aside is one that a run which went on from an older one did not want. Rank 0
// alone changes anything, and holds the directory's lock meanwhile. All calls block.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/swapper/directory_lock.h>
#include "trainer/checkpoint/files.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace spillway::trainer {

inline constexpr const char* kUnfinishedSuffix = ".tmp";
inline constexpr const char* kSetAsideSuffix = ".set-aside";

std::string checkpoint_name(std::uint64_t step);
// The step of "step-00000042"; nothing of any other name.
std::optional<std::uint64_t> step_of_name(const std::string& name);
// Steps of the complete checkpoints, ascending. Empty for a directory that is not there.
std::vector<std::uint64_t> list_checkpoints(const std::filesystem::path& directory);

// Which checkpoints stay: the newest `newest` (0: all), and each `every`-th step (0: none).
struct KeepRule {
  std::uint64_t newest = 2;
  std::uint64_t every = 0;
};
// Of `steps`, ascending, those that need not stay.
std::vector<std::uint64_t> superfluous(const std::vector<std::uint64_t>& steps,
                                       const KeepRule& keep);
// Most checkpoints that lie there at a time, the one being written counted, of a run that saves
// each `interval` steps from `done` to `last`, and at `last`. `present`: of an earlier run.
std::uint64_t most_checkpoints(const std::vector<std::uint64_t>& present, const KeepRule& keep,
                               std::uint64_t interval, std::uint64_t done, std::uint64_t last);

// kNoSpace, with the arithmetic, unless `bytes` are free where the directory is.
Result<void> check_space(const std::filesystem::path& directory, std::uint64_t bytes,
                         const std::string& what);

class CheckpointDirectory {
 public:
  // Makes the directory if it is missing and locks it (kBusy: another run writes there), then
  // removes what a killed run left unfinished.
  static Result<CheckpointDirectory> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return path_; }
  // Lines worth telling the user: what was removed.
  const std::vector<std::string>& notes() const noexcept { return notes_; }
  // Renames those newer than `step`: the run goes on from there. Returns a line each.
  Result<std::vector<std::string>> set_aside_newer_than(std::uint64_t step, CheckpointFiles& files);
  // Removes the superfluous ones. Each first loses its name: what is left of it after a crash is no
  // checkpoint.
  Result<void> prune(const KeepRule& keep, CheckpointFiles& files);

 private:
  explicit CheckpointDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  void remove_leftovers();

  std::filesystem::path path_;
  std::shared_ptr<swapper::DirectoryLock> lock_;
  std::vector<std::string> notes_;
};

}  // namespace spillway::trainer
