// Signals and a library's threads: handlers of the program run on the program's threads, and a
// limit of file sizes is an error, not the program's end.
//
// Threads: each object belongs to the thread that made it.
#pragma once

#include <signal.h>
#include <spillway/aio/export.h>

#include <thread>
#include <utility>

namespace spillway::aio {

// Blocks all signals on this thread while it lives. A thread that is started meanwhile inherits it.
class SPILLWAY_API BlockedSignals {
 public:
  BlockedSignals() noexcept;  // blocks them
  ~BlockedSignals();
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

// Starts a thread that no signal is delivered to. Throws std::system_error as std::thread does.
template <typename Function>
std::thread thread_without_signals(Function&& function) {
  const BlockedSignals blocked;
  return std::thread(std::forward<Function>(function));
}

// While it lives, a write of this thread beyond RLIMIT_FSIZE fails with EFBIG: the SIGXFSZ that the
// kernel sends with it, which ends a process that does not expect it, is taken away.
class SPILLWAY_API FileSizeLimit {
 public:
  FileSizeLimit() noexcept;  // begins to hold the signal back
  ~FileSizeLimit();
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  sigset_t before_;
  bool pending_before_ = false;
};

}  // namespace spillway::aio
