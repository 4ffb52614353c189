// Error and Result: how every layer reports a failure of the environment (a full disk, EIO).
//
// An Error has the operation, path, offset, bytes wanted and got, and errno. `message()` is the one
// line for the user. A Result must not be ignored ([[nodiscard]]). Nothing in aio, pinned_pool or
// swapper throws, logs or exits.
#pragma once

#include <spillway/aio/export.h>
#include <cstdint>
#include <new>
#include <string>

// Debian's tl::expected is not [[nodiscard]], and an alias cannot add the attribute. A declaration
// before its definition can.
#ifndef TL_EXPECTED_HPP
namespace tl {
template <class T, class E>
class [[nodiscard]] expected;
}  // namespace tl
#endif
#include <tl/expected.hpp>
#include <utility>

namespace spillway {

enum class ErrorKind {
  kIo,             // the device or the kernel failed the operation (EIO and others)
  kNoSpace,        // ENOSPC, EDQUOT, EFBIG: the data does not fit
  kNotFound,       // the path does not exist
  kPermission,     // EACCES, EPERM, EROFS
  kShortTransfer,  // the file is shorter than expected
  kDeadline,       // the operation did not complete in the time allowed
  kCancelled,      // cancelled by the caller or by shutdown
  kCorrupt,        // the bytes read are not the bytes that were written
  kBusy,           // another process or object holds the lock
  kNoMemory,       // a limit (cgroup, memlock, address space) cannot hold the request
  kUnsupported,    // this machine, kernel or filesystem cannot do it
  kInvalid,        // the input (file, configuration, argument from a user) is wrong
};

// [[nodiscard]] is on Result, not here: an Error is data.
struct SPILLWAY_API Error {
  ErrorKind kind = ErrorKind::kIo;
  std::string operation;     // "read", "open", "lock", ...
  std::string path;          // empty when no file is involved
  std::uint64_t offset = 0;  // bytes from the start of `path`
  std::uint64_t wanted = 0;  // bytes asked for; 0 = not a transfer
  std::uint64_t got = 0;     // bytes moved before the failure
  int errno_value = 0;       // 0 when the kernel reported none
  std::string detail;        // the expectation, and a remedy

  // One line: "write /data/x at 4096: wanted 65536 bytes, got 512: No space left on device (...)".
  std::string message() const;
};

template <typename T = void>
using Result = tl::expected<T, Error>;

// Returns the kind of a positive `errno_value`.
SPILLWAY_API ErrorKind kind_of_errno(int errno_value);

// Makes the Error of a failed system call.
SPILLWAY_API tl::unexpected<Error> errno_error(std::string operation, std::string path,
                                               int errno_value, std::string detail = {});

// Makes an Error without a system call.
SPILLWAY_API tl::unexpected<Error> make_error(ErrorKind kind, std::string operation,
                                              std::string path, std::string detail);

// Calls `make` and turns std::bad_alloc into kNoMemory. For start-up: later nothing allocates. Both
// texts fit into a std::string without an allocation.
template <typename Make>
auto or_no_memory(const char* operation, const Make& make) -> decltype(make()) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    Error error;
    error.kind = ErrorKind::kNoMemory;
    error.operation = operation;
    error.detail = "the heap ended";
    return tl::unexpected(std::move(error));
  }
}

}  // namespace spillway
