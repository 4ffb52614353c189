// Error and Result: how a failure of the world is reported in every layer.
//
// An Error says what was attempted, on which path, at which offset, how many bytes were wanted
// and got, and the errno behind it. `message()` is the one line a user reads. A Result must be
// looked at ([[nodiscard]]); nothing in aio, pinned_pool or swapper throws, logs or exits.
#pragma once

#include <spillway/aio/export.h>
#include <cstdint>
#include <new>
#include <string>

// Debian's tl::expected is not [[nodiscard]], and an alias of it cannot be. Said before its
// definition, the attribute holds.
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
  kNoSpace,        // ENOSPC, EDQUOT, EFBIG: what was to be written does not fit
  kNotFound,       // the path does not exist
  kPermission,     // EACCES, EPERM, EROFS
  kShortTransfer,  // the file ended before the bytes that were promised
  kDeadline,       // the operation did not complete in the time allowed
  kCancelled,      // given up by the caller or by shutdown
  kCorrupt,        // the bytes read are not the bytes that were written
  kBusy,           // somebody else holds the lock
  kNoMemory,       // a limit (cgroup, memlock, address space) cannot hold the request
  kUnsupported,    // this machine, kernel or filesystem cannot do it
  kInvalid,        // the input (file, configuration, argument from a user) is wrong
};

// [[nodiscard]] is on Result, not here: an Error is data.
struct SPILLWAY_API Error {
  ErrorKind kind = ErrorKind::kIo;
  std::string operation;     // "read", "open", "lock", ...: what was attempted
  std::string path;          // empty when no file is involved
  std::uint64_t offset = 0;  // bytes from the start of `path`
  std::uint64_t wanted = 0;  // bytes asked for; 0 = not a transfer
  std::uint64_t got = 0;     // bytes moved before the failure
  int errno_value = 0;       // 0 when the kernel reported none
  std::string detail;        // what was expected, what to do about it

  // One line: "write /data/x at 4096: wanted 65536 bytes, got 512: No space left on device (...)".
  std::string message() const;
};

template <typename T = void>
using Result = tl::expected<T, Error>;

// The kind that `errno_value` (positive) stands for.
SPILLWAY_API ErrorKind kind_of_errno(int errno_value);

// An Error for a failed system call.
SPILLWAY_API tl::unexpected<Error> errno_error(std::string operation, std::string path,
                                               int errno_value, std::string detail = {});

// An Error with no system call behind it.
SPILLWAY_API tl::unexpected<Error> make_error(ErrorKind kind, std::string operation,
                                              std::string path, std::string detail);

// What `make` returns, or kNoMemory where the heap has no more for it. For what is called at
// start-up: later nothing allocates. Both texts fit into a std::string without an allocation.
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
