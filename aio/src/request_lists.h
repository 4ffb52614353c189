// RequestLists: the requests that wait to be cut into pieces, and the choice of the next one.
//
// Urgent requests go first, in their order. Then reads and writes, each in their order, mixed piece
// by piece in proportion to the waiting bytes of either: neither is stuck behind gigabytes of the
// other, and both end at about the same time. Intrusive lists: no allocation. Threads: guarded by
// the WorkQueue.
#pragma once

#include <cstdint>

#include "request.h"

namespace spillway::aio {

struct RequestList {
  PendingRequest* first = nullptr;
  PendingRequest* last = nullptr;
  std::uint64_t waiting_bytes = 0;  // not yet cut
  std::size_t size = 0;
};

class RequestLists {
 public:
  void add(PendingRequest* request) {
    RequestList& list = list_of(*request);
    request->list = &list;
    request->next = nullptr;
    request->previous = list.last;
    (list.last == nullptr ? list.first : list.last->next) = request;
    list.last = request;
    list.waiting_bytes += waiting_bytes_of(*request);
    ++list.size;
  }

  // Removes a request with its uncut bytes. REQUIRES: it is in a list.
  void remove(PendingRequest* request) {
    RequestList& list = *request->list;
    (request->previous == nullptr ? list.first : request->previous->next) = request->next;
    (request->next == nullptr ? list.last : request->next->previous) = request->previous;
    list.waiting_bytes -= waiting_bytes_of(*request);
    --list.size;
    request->list = nullptr;
  }

  // Records that `bytes` more of a waiting request are cut; removes it if it is fully cut.
  void cut(PendingRequest* request, std::uint32_t bytes) {
    request->cut_to += bytes;
    request->list->waiting_bytes -= bytes;
    if (request->fully_cut()) remove(request);
  }

  // Returns the request whose piece is cut next, of those that `may` take one; nullptr if none.
  template <typename May>
  PendingRequest* next_urgent(const May& may) const {
    return first_of(urgent_, may);
  }
  template <typename May>
  PendingRequest* next_normal(const May& may) {
    PendingRequest* const read = first_of(reads_, may);
    PendingRequest* const write = first_of(writes_, may);
    if (read == nullptr || write == nullptr) return read == nullptr ? write : read;
    // Reads get their share of the picks as evenly spaced as whole picks allow (Bresenham).
    const auto reads = static_cast<std::int64_t>(reads_.waiting_bytes);
    const auto all = reads + static_cast<std::int64_t>(writes_.waiting_bytes);
    if (credit_ < -all || credit_ > all) credit_ = 0;
    credit_ += reads;
    if (2 * credit_ < all) return write;
    credit_ -= all;
    return read;
  }

  void expedite(PendingRequest* request) {
    remove(request);
    request->priority = Priority::kUrgent;
    add(request);
  }

  bool empty() const noexcept {
    return urgent_.first == nullptr && reads_.first == nullptr && writes_.first == nullptr;
  }
  bool urgent_waits() const noexcept { return urgent_.first != nullptr; }
  // About how many pieces wait: a request is at least one.
  std::uint64_t urgent_pieces(std::uint32_t block_size_bytes) const noexcept {
    return pieces(urgent_, block_size_bytes);
  }
  std::uint64_t normal_pieces(std::uint32_t block_size_bytes) const noexcept {
    return pieces(reads_, block_size_bytes) + pieces(writes_, block_size_bytes);
  }

 private:
  template <typename May>
  static PendingRequest* first_of(const RequestList& list, const May& may) {
    PendingRequest* request = list.first;
    while (request != nullptr && !may(*request)) request = request->next;
    return request;
  }
  static std::uint64_t waiting_bytes_of(const PendingRequest& request) {
    return request.end() - request.cut_to;
  }
  static std::uint64_t pieces(const RequestList& list, std::uint32_t block_size_bytes) {
    return list.waiting_bytes / block_size_bytes + list.size;
  }
  RequestList& list_of(const PendingRequest& request) {
    if (request.priority == Priority::kUrgent) return urgent_;
    return request.direction == Direction::kRead ? reads_ : writes_;
  }

  RequestList urgent_, reads_, writes_;
  std::int64_t credit_ = 0;  // of reads, in bytes
};

}  // namespace spillway::aio
