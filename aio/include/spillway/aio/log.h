// LogCallback: receives messages of the library that are no errors.
//
// The library prints nothing. The objects answer questions such as "why the thread pool instead of
// io_uring" (`choice()`, `report()`, `why_not_direct()`). A LogCallback in their options receives
// the same messages when they happen. It is a value: there is no global logger. Threads: any thread
// may call `write` until the object is destroyed; it must neither block nor call that object.
#pragma once

#include <cstdint>
#include <string>

namespace spillway::aio {

enum class LogLevel : std::uint8_t {
  kInfo,     // all is well
  kWarning,  // works, but slower or with more memory than possible
};

struct LogCallback {
  // `line`: one line without the newline, valid during the call.
  void (*write)(void* context, LogLevel level, const char* line) noexcept = nullptr;
  void* context = nullptr;  // passed to `write`

  // Calls `write`, if there is one.
  void operator()(LogLevel level, const std::string& line) const noexcept {
    if (write != nullptr) write(context, level, line.c_str());
  }
};

}  // namespace spillway::aio
