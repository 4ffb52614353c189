#include <spillway/aio/check.h>
#include <spillway/aio/owner_process.h>

#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace spillway::aio {
namespace {

// Of this process; asked for once, and again in each child.
std::atomic<int> pid_here{0};

// It fails only for want of some bytes of heap, and without it children would hang.
void register_handlers(void (*before)(), void (*in_parent)(), void (*in_child)()) {
  SPILLWAY_CHECK(::pthread_atfork(before, in_parent, in_child) == 0,
                 "there is memory for a handler of forks");
}

}  // namespace

std::atomic<std::uint32_t> OwnerProcess::forks_so_far{0};

OwnerProcess::OwnerProcess() {
  static const bool registered = [] {
    pid_here = ::getpid();
    register_handlers(nullptr, nullptr, [] {
      forks_so_far.fetch_add(1, std::memory_order_relaxed);
      pid_here = ::getpid();
    });
    return true;
  }();
  static_cast<void>(registered);
  forks_ = forks_so_far.load(std::memory_order_relaxed);
  pid_ = pid_here.load(std::memory_order_relaxed);
}

Error OwnerProcess::error(std::string operation, std::string path) const {
  Error error;
  error.kind = ErrorKind::kInvalid;
  error.operation = std::move(operation);
  error.path = std::move(path);
  error.detail = "made in process " + std::to_string(pid_) + "; a forked child cannot use it";
  return error;
}

void hold_across_forks(void (*lock)(), void (*unlock)()) {
  register_handlers(lock, unlock, unlock);
}

}  // namespace spillway::aio
