#include "file_range_checks.h"

#include <spillway/aio/check.h>
#include <algorithm>
#include <utility>

namespace spillway::swapper {

FileRangeChecks::FileRangeChecks(Use use)
    : use_(std::move(use)),
      elements_(use_.stored->elements(use_.place)),
      states_((elements_ + kRangeElements - 1) / kRangeElements) {
  const PlaneRange planes = use_.planes;
  for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
    SPILLWAY_CHECK(kRangeElements % use_.stored->layout().planes()[plane].elements_per_block == 0,
                   "a range is whole blocks of the plane");
    sums_.emplace_back(use_.stored->checksums(use_.place).blocks(plane).end);
    takes_hashes_ &= use_.stored->checksums(use_.place).block_elements(plane) == kRangeElements;
  }
}

Transfer FileRangeChecks::read(pinned_pool::Lease lease, aio::Priority priority) {
  was_read_ = true;
  return use_.stored->read(use_.place, use_.planes, std::move(lease), priority,
                           StoredTiles::Verify::kNo);
}

std::span<FileRangeChecks::State> FileRangeChecks::states(ElementRange range) {
  const std::uint64_t end = range.first + range.count;
  SPILLWAY_CHECK(range.first % kRangeElements == 0 && end <= elements_ &&
                     (end % kRangeElements == 0 || end == elements_),
                 "a range is whole kRangeElements, or ends with the tile");
  const std::size_t first = range.first / kRangeElements;
  return std::span(states_).subspan(first, (end + kRangeElements - 1) / kRangeElements - first);
}

Result<void> FileRangeChecks::verified(ElementRange range, Result<void> outcome) {
  const std::span<State> states = this->states(range);
  for (const State state : states) {
    SPILLWAY_CHECK(state != State::kRecorded, "what was recorded is not what was read");
  }
  if (outcome) std::ranges::fill(states, State::kVerified);
  return outcome;
}

Result<void> FileRangeChecks::verify(const std::byte* planes, ElementRange range) {
  return verified(range, use_.stored->verify(use_.place, use_.planes, range, planes));
}

Result<void> FileRangeChecks::verify(std::span<const BlockHash> planes, ElementRange range) {
  SPILLWAY_CHECK(takes_hashes_ && states(range).size() == 1 && planes.size() == use_.planes.count,
                 "a hash is of one range of each plane");
  return verified(range, use_.stored->verify(use_.place, use_.planes, range, planes));
}

const StoredTiles::Owner& FileRangeChecks::after() {
  std::call_once(asked_, [this] { after_ = use_.after(); });
  return after_;
}

void FileRangeChecks::begin_record(ElementRange range) {
  for (State& state : states(range)) {
    SPILLWAY_CHECK(state != State::kRecorded, "a range is recorded once");
    // Damage that was not looked for would get a checksum of its own.
    SPILLWAY_CHECK(state == State::kVerified || !was_read_,
                   "a range is verified before its record");
    state = State::kRecorded;
  }
}

void FileRangeChecks::record(const std::byte* planes, ElementRange range) {
  begin_record(range);
  const StoredTiles::Owner& after = this->after();
  const TileChecksums& checksums = use_.stored->checksums(use_.place);
  for (std::uint32_t i = 0; i < use_.planes.count; ++i) {
    const std::uint32_t plane = use_.planes.first + i;
    checksums.hash({after.tile, plane, after.generation},
                   planes + use_.stored->layout().plane_offset(plane, elements_, use_.planes.first),
                   checksums.blocks(plane, range), sums_[i]);
  }
}

void FileRangeChecks::record(std::span<const BlockHash> planes, ElementRange range) {
  SPILLWAY_CHECK(takes_hashes_ && states(range).size() == 1 && planes.size() == use_.planes.count,
                 "a hash is of one range of each plane");
  begin_record(range);
  const StoredTiles::Owner& after = this->after();
  const TileChecksums& checksums = use_.stored->checksums(use_.place);
  for (std::uint32_t i = 0; i < use_.planes.count; ++i) {
    const std::uint32_t plane = use_.planes.first + i;
    const std::size_t block = checksums.blocks(plane, range).first;
    sums_[i][block] = checksums.value_of({after.tile, plane, after.generation}, planes[i], block);
  }
}

Transfer FileRangeChecks::write(pinned_pool::Lease lease) {
  for (const State state : states_) {
    SPILLWAY_CHECK(state == State::kRecorded, "a range that is written was not recorded");
  }
  const std::size_t place = use_.begin_write();
  SPILLWAY_CHECK(use_.stored->owner(place).generation == after().generation,
                 "a tile's generation was kept while its ranges were recorded");
  return use_.stored->write(place, use_.planes, std::move(lease), &sums_);
}

}  // namespace spillway::swapper
