// CheckpointDirectory: the checkpoints of a run in one directory.
//
// D/step-00000042 is a complete checkpoint: it gets this name when all of it is durable.
// D/step-00000042.tmp is unfinished: it is being written, or its run was killed.
// D/step-00000042.set-aside is newer than the checkpoint from which a later run resumed.
// Threads: one; all calls block. Ownership: rank 0 holds the directory's lock and alone changes it.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/trainer/checkpoint.h>
#include <spillway/trainer/checkpoint_save.h>
#include "trainer/checkpoint/files.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer {

inline constexpr const char* kUnfinishedSuffix = ".tmp";
inline constexpr const char* kSetAsideSuffix = ".set-aside";

// Returns those of `steps` (ascending) that `keep` does not keep.
std::vector<std::uint64_t> superfluous(const std::vector<std::uint64_t>& steps,
                                       const KeepRule& keep);
// Returns the largest number of checkpoints at a time, including the one being written, of a run
// that saves every `interval` steps from `done` to `last`, and at `last`. `present`: those of an
// earlier run.
std::uint64_t most_checkpoints(const std::vector<std::uint64_t>& present, const KeepRule& keep,
                               std::uint64_t interval, std::uint64_t done, std::uint64_t last);

// Checks that `bytes` are free on the directory's filesystem; kNoSpace, with the arithmetic, if
// not.
Result<void> check_space(const std::filesystem::path& directory, std::uint64_t bytes,
                         const std::string& what);

class CheckpointDirectory {
 public:
  // Creates the directory if it is missing, locks it (kBusy: another run uses it), and removes
  // unfinished checkpoints of a killed run.
  static Result<CheckpointDirectory> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return path_; }
  // Returns lines for the user about removed checkpoints.
  const std::vector<std::string>& notes() const noexcept { return notes_; }
  // Renames the checkpoints newer than `step`, from which the run resumes. Returns a line for each.
  Result<std::vector<std::string>> set_aside_newer_than(std::uint64_t step, CheckpointFiles& files);
  // Removes the checkpoints that `keep` does not keep. Each is renamed first, so that after a crash
  // its remains are no checkpoint.
  Result<void> prune(const KeepRule& keep, CheckpointFiles& files);

 private:
  explicit CheckpointDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  void remove_leftovers();

  std::filesystem::path path_;
  std::shared_ptr<swapper::DirectoryLock> lock_;
  std::vector<std::string> notes_;
};

}  // namespace spillway::trainer
