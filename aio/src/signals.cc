#include <spillway/aio/signals.h>

#include <cerrno>
#include <ctime>

namespace spillway::aio {
namespace {

sigset_t only(int signal) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  return set;
}

}  // namespace

BlockedSignals::BlockedSignals() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before_);
}

BlockedSignals::~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

FileSizeLimit::FileSizeLimit() noexcept {
  const sigset_t set = only(SIGXFSZ);
  ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  sigset_t pending;
  ::sigpending(&pending);
  pending_before_ = ::sigismember(&pending, SIGXFSZ) == 1;
}

// Keeps errno, which may be the reason of the call that it guarded.
FileSizeLimit::~FileSizeLimit() {
  const int reason = errno;
  const sigset_t set = only(SIGXFSZ);
  const timespec no_time{};
  if (!pending_before_) {
    while (::sigtimedwait(&set, nullptr, &no_time) < 0 && errno == EINTR) {
    }
  }
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  errno = reason;
}

}  // namespace spillway::aio
