// FileRangeChecks: the RangeChecks of a stored tile. The tile's generation may be kept until the
// first range is recorded.
//
// New checksums are kept apart until the planes are written: a computation that stops half-way
// leaves the old bytes with their old checksums. Threads: as RangeChecks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "stored_tiles.h"

namespace spillway::swapper {

class FileRangeChecks final : public RangeChecks {
 public:
  struct Use {
    std::shared_ptr<StoredTiles> stored;
    std::size_t place = 0;  // of the present bytes
    PlaneRange planes;
    std::function<StoredTiles::Owner()> after;  // the owner of the bytes after the next write
    std::function<std::size_t()> begin_write;   // the place of the write
  };
  explicit FileRangeChecks(Use use);

  Transfer read(pinned_pool::Lease lease, aio::Priority priority) override;
  Result<void> verify(const std::byte* planes, ElementRange range) override;
  void record(const std::byte* planes, ElementRange range) override;
  bool takes_hashes() const noexcept override { return takes_hashes_; }
  Result<void> verify(std::span<const BlockHash> planes, ElementRange range) override;
  void record(std::span<const BlockHash> planes, ElementRange range) override;
  Transfer write(pinned_pool::Lease lease) override;

 private:
  enum class State : std::uint8_t { kUnknown, kVerified, kRecorded };

  // Returns the entries of states_. REQUIRES: whole ranges of kRangeElements.
  std::span<State> states(ElementRange range);
  // Updates the states after a check.
  Result<void> verified(ElementRange range, Result<void> outcome);
  void begin_record(ElementRange range);

  const StoredTiles::Owner& after();

  const Use use_;
  const std::uint64_t elements_;
  bool takes_hashes_ = true;
  bool was_read_ = false;
  std::vector<State> states_;  // of each kRangeElements; each entry is used by one thread
  StoredTiles::Sums sums_;     // of each plane's blocks
  std::once_flag asked_;
  StoredTiles::Owner after_;  // known from the first record on
};

}  // namespace spillway::swapper
