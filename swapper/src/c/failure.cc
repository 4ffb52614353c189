#include "failure.h"

#include <array>
#include <cstdio>

namespace spillway::c {
namespace {

// What spillway_last_error() points into.
struct LastError {
  spillway_error shown{SPILLWAY_OK, 0, 0, 0, 0, "", "", "", "no call of this thread has failed"};
  Error error;
  std::string message;
  std::array<char, 256> fixed{};  // for when there is no memory
};
thread_local LastError last;

spillway_status status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kIo:
      return SPILLWAY_IO;
    case ErrorKind::kNoSpace:
      return SPILLWAY_NO_SPACE;
    case ErrorKind::kNotFound:
      return SPILLWAY_NOT_FOUND;
    case ErrorKind::kPermission:
      return SPILLWAY_PERMISSION;
    case ErrorKind::kShortTransfer:
      return SPILLWAY_SHORT_TRANSFER;
    case ErrorKind::kDeadline:
      return SPILLWAY_DEADLINE;
    case ErrorKind::kCancelled:
      return SPILLWAY_CANCELLED;
    case ErrorKind::kCorrupt:
      return SPILLWAY_CORRUPT;
    case ErrorKind::kBusy:
      return SPILLWAY_BUSY;
    case ErrorKind::kNoMemory:
      return SPILLWAY_NO_MEMORY;
    case ErrorKind::kUnsupported:
      return SPILLWAY_UNSUPPORTED;
    case ErrorKind::kInvalid:
      return SPILLWAY_INVALID;
  }
  return SPILLWAY_INTERNAL;
}

spillway_status remember(spillway_status status, Error error, std::string message) {
  last.error = std::move(error);
  last.message = std::move(message);
  last.shown = {.status = status,
                .errno_value = last.error.errno_value,
                .offset = last.error.offset,
                .wanted = last.error.wanted,
                .got = last.error.got,
                .operation = last.error.operation.c_str(),
                .path = last.error.path.c_str(),
                .detail = last.error.detail.c_str(),
                .message = last.message.c_str()};
  return status;
}

spillway_status remember_fixed(spillway_status status, const char* operation,
                               const char* detail) noexcept {
  std::snprintf(last.fixed.data(), last.fixed.size(), "%s: %s", operation, detail);
  last.shown = {status, 0, 0, 0, 0, operation, "", last.fixed.data(), last.fixed.data()};
  return status;
}

}  // namespace

spillway_status failed(const Error& error) {
  return remember(status_of(error.kind), error, error.message());
}

spillway_status failed(spillway_status status, const char* operation, const std::string& detail) {
  Error error;
  error.operation = operation;
  error.detail = detail;
  return remember(status, error, std::string(operation) + ": " + detail);
}

spillway_status out_of_memory(const char* operation) noexcept {
  return remember_fixed(SPILLWAY_NO_MEMORY, operation, "out of memory");
}

spillway_status defect(const char* operation, const char* what) noexcept {
  return remember_fixed(SPILLWAY_INTERNAL, operation, what);
}

}  // namespace spillway::c

const spillway_error* spillway_last_error() { return &spillway::c::last.shown; }

const char* spillway_status_name(spillway_status status) {
  static constexpr const char* kNames[] = {
      "SPILLWAY_OK",        "SPILLWAY_IO",           "SPILLWAY_NO_SPACE",
      "SPILLWAY_NOT_FOUND", "SPILLWAY_PERMISSION",   "SPILLWAY_SHORT_TRANSFER",
      "SPILLWAY_DEADLINE",  "SPILLWAY_CANCELLED",    "SPILLWAY_CORRUPT",
      "SPILLWAY_BUSY",      "SPILLWAY_NO_MEMORY",    "SPILLWAY_UNSUPPORTED",
      "SPILLWAY_INVALID",   "SPILLWAY_MISUSE",       "SPILLWAY_BAD_HANDLE",
      "SPILLWAY_IN_USE",    "SPILLWAY_WAIT_TIMEOUT", "SPILLWAY_INTERNAL",
  };
  const auto number = static_cast<unsigned>(status);
  return number < std::size(kNames) ? kNames[number] : "unknown status";
}

int spillway_version() { return spillway::version(); }
const char* spillway_version_string() { return spillway::version_string(); }
