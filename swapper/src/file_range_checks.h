// FileRangeChecks: one use of a stored tile's planes, verified and recorded by who computes on
// them. Its generation may be kept until the first range is recorded.
//
// What is recorded is kept apart until the planes are written: a compute that stops half-way leaves
// the old bytes and their old checksums.
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
    std::function<StoredTiles::Owner()> after;  // whose bytes the next write makes them
    std::function<std::size_t()> begin_write;   // the place that the write goes to
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

  // The range's entries of states_. REQUIRES: the range is whole ones.
  std::span<State> states(ElementRange range);
  // The ranges' states, and what they become.
  Result<void> verified(ElementRange range, Result<void> outcome);
  void begin_record(ElementRange range);

  const StoredTiles::Owner& after();

  const Use use_;
  const std::uint64_t elements_;
  bool takes_hashes_ = true;
  bool was_read_ = false;
  std::vector<State> states_;  // of each kRangeElements; a thread has its own
  StoredTiles::Sums sums_;     // of each plane's blocks
  std::once_flag asked_;
  StoredTiles::Owner after_;  // known from the first record on
};

}  // namespace spillway::swapper
