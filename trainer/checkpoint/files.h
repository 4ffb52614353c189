// CheckpointFiles: what writing a checkpoint does to the filesystem, as one seam, so that tests can
// fail any call of it and drop what was not synced.
//
// Data goes through the page cache in the background (sync_file_range) and is dropped from it: a
// checkpoint larger than RAM does not push out what training uses. Durable is what sync() and
// sync_directory() have acknowledged, nothing else. All calls block; no call is repeated here after
// it failed. One thread at a time.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/swapper/sealed_tile.h>
#include "trainer/checkpoint/format/manifest.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

// A file that is written once, from its start to its end.
class NewFile {
 public:
  virtual ~NewFile() = default;
  virtual Result<void> write(std::span<const std::byte> bytes) = 0;
  virtual Result<void> sync() = 0;
  virtual Result<void> close() = 0;  // no more calls after it
};

class CheckpointFiles {
 public:
  virtual ~CheckpointFiles() = default;
  virtual Result<void> make_directory(const std::filesystem::path& path) = 0;
  // An existing file is an error (kBusy).
  virtual Result<std::unique_ptr<NewFile>> create(const std::filesystem::path& path) = 0;
  // Replaces nothing: `to` must not exist (kBusy).
  virtual Result<void> rename(const std::filesystem::path& from,
                              const std::filesystem::path& to) = 0;
  virtual Result<void> sync_directory(const std::filesystem::path& path) = 0;
  // What is sealed, as it is: a second name of the same bytes, or a file that shares their room.
  // kUnsupported where that cannot be had (another filesystem): a copy has to do. The clone is
  // durable; the link's bytes are when sync() has said so.
  virtual Result<void> link(const swapper::SealedSegment& segment,
                            const std::filesystem::path& to) = 0;
  virtual Result<void> clone(const swapper::SealedSegment& segment,
                             const std::filesystem::path& to) = 0;
  virtual Result<void> sync(swapper::SealedSegment& segment) = 0;
};

std::unique_ptr<CheckpointFiles> make_checkpoint_files();

// Writes a shard's file block by block, with the checksum of each.
class ShardWriter {
 public:
  ShardWriter(std::unique_ptr<NewFile> file, std::string name);

  // Appends bytes, after zeros up to a multiple of kPlaceAlignment. Returns where they begin.
  Result<std::uint64_t> append(std::span<const std::byte> bytes);
  static constexpr std::uint64_t kPlaceAlignment = 64;
  // Writes what is left, syncs and closes. No more calls after it.
  Result<ShardFile> finish();

 private:
  Result<void> put(std::span<const std::byte> bytes);
  Result<void> flush();

  std::unique_ptr<NewFile> file_;
  ShardFile entry_;
  std::vector<std::byte> block_;
};

// A whole small file, synced.
Result<void> write_file(CheckpointFiles& files, const std::filesystem::path& path,
                        std::string_view text);

// Removes the files of a checkpoint, complete or not, and then its directory, unless something else
// is in it: that stays, and with it the directory. Returns whether the directory is gone.
bool remove_checkpoint(const std::filesystem::path& directory);

}  // namespace spillway::trainer
