// CallersMoves: requests that the waiting thread moves itself, with pread and pwrite.
//
// While an engine is idle that is as fast as the device, where handing a request to the engine's
// thread and back costs two switches of threads. Threads: any.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/mutex.h>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "latency_counter.h"

namespace spillway::aio {

class CallersMoves {
 public:
  explicit CallersMoves(const EngineOptions& options) : options_(options) {}

  // True if the engine's threads would do the same with `request`: whole pages, moved in place, one
  // operation at a time, and nothing that needs their judgement.
  bool suits(Direction direction, const Engine::Request& request,
             const std::byte* data) const noexcept;
  // Moves all bytes. False if an operation moved fewer or failed: then the engine's threads must
  // move the request, from its start. REQUIRES: suits().
  bool move(Direction direction, const Engine::Request& request, std::byte* data);

  // Add or return what was moved here.
  void add_to(EngineStats& stats) const noexcept;
  LatencyHistogram latency(Direction direction) const noexcept;

 private:
  bool move_block(Direction direction, int fd, std::uint64_t offset, std::byte* data,
                  std::size_t size_bytes);
  void measure(const EndedOperation& operation);

  const EngineOptions& options_;
  std::atomic<std::uint64_t> bytes_[2] = {};       // by Direction
  std::atomic<std::uint64_t> operations_[2] = {};  // by Direction
  mutable Mutex mutex_;
  LatencyCounter latency_[2] SPILLWAY_GUARDED_BY(mutex_);  // by Direction
};

}  // namespace spillway::aio
