// Failure: the exception of the trainer. It carries an Error of the lower layers through code that
// libtorch calls. `main` prints its one line and exits non-zero.
#pragma once

#include <spillway/aio/error.h>
#include <stdexcept>
#include <utility>

namespace spillway::trainer {

class Failure : public std::runtime_error {
 public:
  // Wraps `error`; `what` is its message.
  explicit Failure(Error error) : std::runtime_error(error.message()), error_(std::move(error)) {}
  const Error& error() const noexcept { return error_; }

 private:
  Error error_;
};

// Interrupted: thrown when the user asks to stop (SIGINT, SIGTERM). Unwinding removes temporary
// files.
class Interrupted : public std::runtime_error {
 public:
  // Makes one; it says no more than "interrupted".
  Interrupted() : std::runtime_error("interrupted") {}
};

// Throws a failed result as Failure.
inline void value_or_throw(Result<void> result) {
  if (!result) throw Failure(std::move(result.error()));
}

// Returns the value of a result; throws a failed one as Failure.
template <typename T>
T value_or_throw(Result<T> result) {
  if (!result) throw Failure(std::move(result.error()));
  return std::move(*result);
}

}  // namespace spillway::trainer
