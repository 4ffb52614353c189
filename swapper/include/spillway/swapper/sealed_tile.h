// SealedSegment and SealedTile: segment files and tiles that Tier::seal made immutable.
//
// A sealed segment file is never written again: its store has it open for reading only, and new
// generations of its tiles go to other files. So a hard link to it is a free copy that outlives the
// store. Threads: any; calls block. Ownership: shared by the store and its SealedTiles.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/aio/file.h>
#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <spillway/swapper/layout.h>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spillway::swapper {

class SPILLWAY_API SealedSegment {
 public:
  // Wraps the descriptor that wrote the file: only that one reports lost writes.
  SealedSegment(aio::File written, std::uint64_t size_bytes)
      : file_(std::move(written)), size_bytes_(size_bytes) {}

  // Returns the file's name, from the root. Gone once a later `seal`, or `free`, finds no tile in
  // it.
  const std::string& path() const noexcept { return file_.path(); }
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  int fd() const noexcept { return file_.fd(); }  // to clone from, not to write
  // Calls fdatasync once and returns that outcome ever after, because the kernel may mark lost
  // pages clean once it has reported them. kInvalid in a forked child.
  Result<void> sync();
  // Makes a hard link `name` in an open directory (or AT_FDCWD), of the file itself, whatever its
  // path names by now. Errors: as link(2), in `errno_value`; kUnsupported where no link is possible
  // (another filesystem, one without links, too many links): the bytes must be copied then. Durable
  // after `sync` and an fsync of the directory.
  Result<void> link(int directory_fd, const std::string& name) const;
  // Reads exactly `to.size()` bytes, even after the file was unlinked. REQUIRES: offset, size and
  // address are multiples of kPlaneAlignment.
  Result<void> read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  aio::File file_;
  std::uint64_t size_bytes_;
  const aio::OwnerProcess owner_;
  Mutex mutex_;
  std::optional<Result<void>> synced_ SPILLWAY_GUARDED_BY(mutex_);
};

struct SealedTile {
  std::shared_ptr<SealedSegment> segment;
  std::uint64_t offset = 0;  // of the first plane, in bytes; the others follow as in the Layout
  // The identity in the checksums: the tile's number in its store, and its generation.
  TileId tile = 0;
  std::uint32_t generation = 0;
  struct PlaneSums {
    std::size_t block_bytes = 0;
    std::vector<std::uint64_t> values;  // block_checksum of each
  };
  std::vector<PlaneSums> planes;  // of each plane; empty if the store has no checksums
};

}  // namespace spillway::swapper
