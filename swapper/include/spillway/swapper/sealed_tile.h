// SealedSegment and SealedTile: what Tier::seal left on files, for good.
//
// A sealed segment file is never written again by anybody: its store has it open for reading only,
// and new generations of its tiles go to other files. A hard link to it is therefore a copy that
// cost nothing, and outlives the store. Thread-safe; calls block.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/aio/file.h>
#include <spillway/swapper/layout.h>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spillway::swapper {

class SPILLWAY_API SealedSegment {
 public:
  // `written`: the descriptor that everything was written with, which knows of lost writes.
  SealedSegment(aio::File written, std::uint64_t size_bytes)
      : file_(std::move(written)), size_bytes_(size_bytes) {}

  // Its name while the store has it: until the store's next seal that finds no tile in it.
  const std::string& path() const noexcept { return file_.path(); }
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  int fd() const noexcept { return file_.fd(); }  // to clone from, not to write
  // fdatasync, once: what the first call found is what every call says, for the kernel may call
  // lost pages clean after it has told of them.
  Result<void> sync();
  // Exactly these bytes, whatever became of the file's names. REQUIRES: offset, size and address
  // are multiples of kPlaneAlignment.
  Result<void> read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  aio::File file_;
  std::uint64_t size_bytes_;
  std::mutex mutex_;
  std::optional<Result<void>> synced_;
};

struct SealedTile {
  std::shared_ptr<SealedSegment> segment;
  std::uint64_t offset = 0;  // of the first plane, in bytes; the others follow as in the Layout
  // Whom the checksums are of: the tile's number in its store, and its generation.
  TileId tile = 0;
  std::uint32_t generation = 0;
  struct PlaneSums {
    std::size_t block_bytes = 0;
    std::vector<std::uint64_t> values;  // block_checksum of each
  };
  std::vector<PlaneSums> planes;  // of each plane; empty when the store keeps no checksums
};

}  // namespace spillway::swapper
