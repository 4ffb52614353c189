#include "request_stream.h"

#include <algorithm>
#include <string>
#include <utility>

namespace spillway::aio_bench {

using aio::Direction;

RequestStream::RequestStream(TestFile& test, const Pattern& pattern, const Buffers& buffers,
                             aio::Engine& engine, const RequestPlan& plan, Check check)
    : test_(test),
      pattern_(pattern),
      buffers_(buffers),
      engine_(engine),
      plan_(plan),
      check_(check) {
  for (std::size_t i = 0; i < plan.count; ++i) {
    free_sources_.push_back(i);
    free_sinks_.push_back(i);
  }
}

RequestStream::~RequestStream() {
  for (Pending& one : pending_) one.ticket.wait();
}

std::uint64_t RequestStream::size_at(std::uint64_t offset) const {
  return std::min(plan_.request_bytes, test_.size_bytes() - offset);
}

bool RequestStream::is_pending(std::uint64_t offset, std::uint64_t size_bytes) const {
  return std::ranges::any_of(pending_, [&](const Pending& one) {
    return offset < one.offset + one.size_bytes && one.offset < offset + size_bytes;
  });
}

void RequestStream::submit(Direction direction, std::uint64_t& cursor, std::uint32_t pass) {
  const auto step = [&] {
    const std::uint64_t at = cursor;
    cursor += size_at(at);
    if (cursor >= test_.size_bytes()) cursor = 0;
    return at;
  };
  // The last pass may have stopped between two requests of this one's size.
  cursor -= cursor % plan_.request_bytes;
  std::uint64_t offset = step();
  while (is_pending(offset, size_at(offset))) offset = step();
  const std::uint64_t size = size_at(offset);
  const std::uint64_t in_buffer = offset % std::max(plan_.request_bytes, Pattern::kPeriodBytes);
  const bool write = direction == Direction::kWrite;
  auto& free = write ? free_sources_ : free_sinks_;
  const std::size_t index = free.back();
  free.pop_back();
  const auto memory = write ? buffers_.source(index) : buffers_.sink(index);
  const TestFile::Place place = test_.place_of(offset);
  const aio::Engine::Request request{
      .file = place.file, .offset = place.offset, .size_bytes = size, .buffer_offset = in_buffer};
  if (write) {
    Pattern::stamp(memory.subspan(in_buffer, size), offset, pass);
    std::ranges::fill(test_.passes_of(offset, size), pass);
  }
  aio::Buffer buffer = aio::Buffer::borrow(memory);
  auto ticket =
      write ? engine_.write(request, std::move(buffer)) : engine_.read(request, std::move(buffer));
  pending_.push_back({std::move(ticket), direction, offset, size, index});
}

Result<void> RequestStream::finish_oldest() {
  Pending oldest = std::move(pending_.front());
  pending_.pop_front();
  const aio::Completion completion = oldest.ticket.wait();
  const bool write = oldest.direction == Direction::kWrite;
  (write ? free_sources_ : free_sinks_).push_back(oldest.buffer);
  if (!completion.transferred) return tl::unexpected(completion.transferred.error());
  if (write || check_ == Check::kNone) return {};
  const std::uint64_t in_buffer =
      oldest.offset % std::max(plan_.request_bytes, Pattern::kPeriodBytes);
  const auto data = buffers_.sink(oldest.buffer).subspan(in_buffer, oldest.size_bytes);
  const auto passes = test_.passes_of(oldest.offset, oldest.size_bytes);
  const auto wrong = check_ == Check::kAll ? pattern_.wrong_page(data, oldest.offset, passes)
                                           : Pattern::wrong_stamp(data, oldest.offset, passes);
  if (!wrong) return {};
  const TestFile::Place place = test_.place_of(*wrong);
  return make_error(
      ErrorKind::kCorrupt, "read", place.file->path(),
      "the page at byte " + std::to_string(place.offset) + " does not hold what was written there");
}

Result<void> RequestStream::finish_all() {
  while (!pending_.empty()) {
    if (auto done = finish_oldest(); !done) return done;
  }
  return {};
}

}  // namespace spillway::aio_bench
