// IoObserver: told of each operation that ended, with its times, for a trace of what drives did.
//
// A value like LogCallback: no global, one branch an operation when `ended` is null, and no heap
// memory in any case. Called on the engine's threads until the Engine is gone; it must not block,
// nor call that Engine.
#pragma once

#include <spillway/aio/backend.h>
#include <chrono>
#include <cstdint>

namespace spillway::aio {

// One operation of at most block_size_bytes; what a short transfer left over is another one.
struct EndedOperation {
  Direction direction = Direction::kRead;
  std::uint64_t offset = 0;         // bytes from the start of the file
  std::uint32_t size_bytes = 0;     // moved; 0 when it failed
  std::uint32_t engine_thread = 0;  // 0 to thread_count - 1
  std::chrono::steady_clock::time_point submitted;
  std::chrono::steady_clock::time_point ended;
};

struct IoObserver {
  void (*ended)(void* context, const EndedOperation& operation) noexcept = nullptr;
  void* context = nullptr;  // handed to `ended`
};

}  // namespace spillway::aio
