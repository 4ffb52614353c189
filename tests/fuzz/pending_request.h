// A pending request of the fuzz target for requests, and guard bytes around its memory.
#pragma once

#include <spillway/aio/check.h>
#include <spillway/aio/engine.h>

#include <algorithm>
#include <future>
#include <vector>

namespace spillway::aio {

using Bytes = std::vector<std::byte>;

constexpr std::byte kUntouched{0xa5};  // what its memory holds before, and around it behind
constexpr std::size_t kGuardBytes = 64;

// A pending request, and its expected outcome.
struct Pending {
  Direction direction;
  std::uint64_t offset;
  std::size_t size_bytes;
  std::size_t buffer_offset;
  Bytes expected;  // a write: what it writes; a read: what it must find
  Ticket ticket;
  std::future<Completion> completion;  // of a request with a callback
  bool may_end_early = false;          // cancelled, or with a deadline

  std::uint64_t end() const { return offset + size_bytes; }
  Completion wait() { return ticket.valid() ? ticket.wait() : completion.get(); }
};

inline void expect_guards(const Pending& pending, const Buffer& buffer) {
  const std::byte* data = buffer.data();
  auto touched = [](std::byte b) { return b != kUntouched; };
  SPILLWAY_CHECK(std::none_of(data, data + pending.buffer_offset, touched), "touched before");
  const std::byte* end = data + pending.buffer_offset + pending.size_bytes;
  SPILLWAY_CHECK(std::none_of(end, end + kGuardBytes, touched), "touched behind");
}

}  // namespace spillway::aio
