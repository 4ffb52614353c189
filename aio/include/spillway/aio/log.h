// LogCallback: where the library says what it would otherwise keep to itself.
//
// Libraries print nothing. What is worth knowing and no error (the thread pool was taken instead of
// io_uring, memory could not be registered, a file works through the page cache, ...) can be asked
// of the objects (choice(), report(), why_not_direct()); with a LogCallback in the options it is
// also told when it happens. A value: there is no global logger. `write` may be called by any
// thread, also one of the engine's, until the object made with it is gone: it must not block, nor
// call that object.
#pragma once

#include <cstdint>
#include <string>

namespace spillway::aio {

enum class LogLevel : std::uint8_t {
  kInfo,     // as it should be
  kWarning,  // works, but slower or with more memory than it could
};

struct LogCallback {
  // `line`: one line without its end, valid during the call.
  void (*write)(void* context, LogLevel level, const char* line) noexcept = nullptr;
  void* context = nullptr;  // handed to `write`

  // Does nothing without a `write`.
  void operator()(LogLevel level, const std::string& line) const noexcept {
    if (write != nullptr) write(context, level, line.c_str());
  }
};

}  // namespace spillway::aio
