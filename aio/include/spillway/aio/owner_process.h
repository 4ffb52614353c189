// OwnerProcess: the process that made an object. Its forked children cannot use it.
//
// fork() copies the calling thread alone. In the child nobody moves bytes or wakes a waiter, and a
// mutex that another thread held stays locked for ever. So objects with threads, locks or files
// remember the process that made them. In a child their calls fail at once with a reason, and their
// destructors leave alone what the parent still uses. A child may make objects of its own.
//
// Not recognised: a child that is made past the C library's fork(), by the system call, by _Fork()
// or by vfork(). Threads: any; no call blocks.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <spillway/aio/mutex.h>
#include <atomic>
#include <cstdint>
#include <string>

namespace spillway::aio {

class SPILLWAY_API OwnerProcess {
 public:
  // Remembers the calling process. No system call after the first one, which registers a handler of
  // forks.
  OwnerProcess();

  // True in that process, false in its children. One load: getpid() would be a system call.
  bool is_here() const noexcept { return forks_ == forks_so_far.load(std::memory_order_relaxed); }
  // Returns the error for a child: kInvalid, "made in process N; a forked child cannot use it".
  Error error(std::string operation, std::string path = {}) const;

 private:
  // Forks on the way from the first process to this one.
  static std::atomic<std::uint32_t> forks_so_far;

  std::uint32_t forks_;
  int pid_;
};

// Registers handlers, once, that hold a mutex of the whole process across each fork. A child then
// finds it free, and what it guards whole. REQUIRES: no other such mutex is taken under it.
SPILLWAY_API void hold_across_forks(void (*lock)(), void (*unlock)());

}  // namespace spillway::aio
