// IoObserver: a callback for each completed operation, with its times. Traces use it.
//
// A value like LogCallback, not a global. It costs one branch per operation if `ended` is null, and
// never heap memory. Threads: called on the thread that moved the bytes, one of the engine's or a
// waiting caller's, until the Engine is destroyed; it must neither block nor call that Engine.
#pragma once

#include <spillway/aio/backend.h>
#include <chrono>
#include <cstdint>

namespace spillway::aio {

// One operation of at most `block_size_bytes`. The rest of a short transfer is another operation.
struct EndedOperation {
  Direction direction = Direction::kRead;
  std::uint64_t offset = 0;         // bytes from the start of the file
  std::uint32_t size_bytes = 0;     // moved; 0 after a failure
  std::uint32_t engine_thread = 0;  // 0 to thread_count - 1; thread_count: a caller's own thread
  std::chrono::steady_clock::time_point submitted;
  std::chrono::steady_clock::time_point ended;
};

struct IoObserver {
  void (*ended)(void* context, const EndedOperation& operation) noexcept = nullptr;
  void* context = nullptr;  // passed to `ended`
};

}  // namespace spillway::aio
