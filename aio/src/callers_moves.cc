#include "callers_moves.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "piece.h"

namespace spillway::aio {
namespace {

std::size_t index_of(Direction direction) { return static_cast<std::size_t>(direction); }

// A write beyond a limit of file sizes comes with a signal, which the engine's threads block.
bool file_sizes_are_limited() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
}

}  // namespace

bool CallersMoves::suits(Direction direction, const Engine::Request& request,
                         const std::byte* data) const noexcept {
  if (request.size_bytes == 0 || request.deadline != Engine::kNoDeadline) return false;
  const bool one_by_one = options_.queue_depth == 1 && options_.thread_count == 1;
  if (request.size_bytes > options_.block_size_bytes && !one_by_one) return false;
  const std::uint64_t alignment = block_alignment(*request.file);
  if (request.offset % alignment != 0 || request.size_bytes % alignment != 0) return false;
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  if (address % request.file->memory_alignment() != 0) return false;
  return direction == Direction::kRead || !file_sizes_are_limited();
}

bool CallersMoves::move(Direction direction, const Engine::Request& request, std::byte* data) {
  const std::size_t most = std::max(options_.block_size_bytes, block_alignment(*request.file));
  for (std::size_t done = 0; done < request.size_bytes;) {
    const std::size_t size = std::min(most, request.size_bytes - done);
    if (!move_block(direction, request.file->fd(), request.offset + done, data + done, size)) {
      return false;
    }
    done += size;
  }
  bytes_[index_of(direction)].fetch_add(request.size_bytes, std::memory_order_relaxed);
  return true;
}

bool CallersMoves::move_block(Direction direction, int fd, std::uint64_t offset, std::byte* data,
                              std::size_t size_bytes) {
  using std::chrono::steady_clock;
  const bool measured = options_.measure_latency || options_.observer.ended != nullptr;
  const auto submitted = measured ? steady_clock::now() : steady_clock::time_point();
  const auto at = static_cast<off_t>(offset);
  const ssize_t moved = direction == Direction::kRead ? ::pread(fd, data, size_bytes, at)
                                                      : ::pwrite(fd, data, size_bytes, at);
  operations_[index_of(direction)].fetch_add(1, std::memory_order_relaxed);
  if (measured) {
    measure({.direction = direction,
             .offset = offset,
             .size_bytes = static_cast<std::uint32_t>(std::max<ssize_t>(moved, 0)),
             .engine_thread = options_.thread_count,
             .submitted = submitted,
             .ended = steady_clock::now()});
  }
  return moved == static_cast<ssize_t>(size_bytes);
}

void CallersMoves::measure(const EndedOperation& operation) {
  if (options_.measure_latency) {
    const MutexLock lock(mutex_);
    latency_[index_of(operation.direction)].add(operation.ended - operation.submitted);
  }
  if (options_.observer.ended != nullptr) {
    options_.observer.ended(options_.observer.context, operation);
  }
}

void CallersMoves::add_to(EngineStats& stats) const noexcept {
  const auto of = [](const std::atomic<std::uint64_t>(&counters)[2], Direction direction) {
    return counters[index_of(direction)].load(std::memory_order_relaxed);
  };
  stats.read_bytes += of(bytes_, Direction::kRead);
  stats.written_bytes += of(bytes_, Direction::kWrite);
  stats.read_operations += of(operations_, Direction::kRead);
  stats.write_operations += of(operations_, Direction::kWrite);
  stats.system_calls += of(operations_, Direction::kRead) + of(operations_, Direction::kWrite);
}

LatencyHistogram CallersMoves::latency(Direction direction) const noexcept {
  const MutexLock lock(mutex_);
  return latency_[index_of(direction)].snapshot();
}

}  // namespace spillway::aio
