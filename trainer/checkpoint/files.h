// CheckpointFiles: the filesystem calls of a save, behind one interface. Tests make any call fail
// and drop data that was not synced.
//
// Data goes through the page cache in the background (sync_file_range) and is dropped from it, so a
// checkpoint larger than RAM does not evict the pages that training uses. Only data that `sync` and
// `sync_directory` have acknowledged is durable. No failed call is repeated. Threads: one at a
// time; all calls block.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/swapper/sealed_tile.h>
#include <spillway/trainer/checkpoint_manifest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

// NewFile: a file that is written once, from start to end.
class NewFile {
 public:
  virtual ~NewFile() = default;
  virtual Result<void> write(std::span<const std::byte> bytes) = 0;
  virtual Result<void> sync() = 0;
  virtual Result<void> close() = 0;  // the last call
};

class CheckpointFiles {
 public:
  virtual ~CheckpointFiles() = default;
  virtual Result<void> make_directory(const std::filesystem::path& path) = 0;
  // Creates a file; kBusy if it exists.
  virtual Result<std::unique_ptr<NewFile>> create(const std::filesystem::path& path) = 0;
  // Renames a file or directory; kBusy if `to` exists.
  virtual Result<void> rename(const std::filesystem::path& from,
                              const std::filesystem::path& to) = 0;
  virtual Result<void> sync_directory(const std::filesystem::path& path) = 0;
  // Links the segment's file, or clones it to a file that shares its blocks. kUnsupported if the
  // filesystem cannot (another filesystem): then it must be copied. The clone is durable; a link is
  // durable after `sync` of the segment.
  virtual Result<void> link(const swapper::SealedSegment& segment,
                            const std::filesystem::path& to) = 0;
  virtual Result<void> clone(const swapper::SealedSegment& segment,
                             const std::filesystem::path& to) = 0;
  virtual Result<void> sync(swapper::SealedSegment& segment) = 0;
};

std::unique_ptr<CheckpointFiles> make_checkpoint_files();

// `magic`: statfs's f_type.
bool filesystem_has_links(std::uint64_t magic);

// ShardWriter: writes a shard's file block by block, with the checksum of each.
class ShardWriter {
 public:
  ShardWriter(std::unique_ptr<NewFile> file, std::string name);

  // Appends bytes, after zeros up to a multiple of kPlaceAlignment. Returns their offset.
  Result<std::uint64_t> append(std::span<const std::byte> bytes);
  static constexpr std::uint64_t kPlaceAlignment = 64;
  // Writes the rest, syncs and closes. The last call.
  Result<ShardFile> finish();

 private:
  Result<void> put(std::span<const std::byte> bytes);
  Result<void> flush();

  std::unique_ptr<NewFile> file_;
  ShardFile entry_;
  std::vector<std::byte> block_;
};

// Writes a small file and syncs it.
Result<void> write_file(CheckpointFiles& files, const std::filesystem::path& path,
                        std::string_view text);

// Removes the files of a checkpoint, complete or not, and its directory, unless that has other
// files. Returns true if the directory is removed.
bool remove_checkpoint(const std::filesystem::path& directory);

}  // namespace spillway::trainer
