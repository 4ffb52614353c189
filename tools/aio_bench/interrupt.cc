#include "interrupt.h"

#include <atomic>
#include <csignal>

namespace spillway::aio_bench {
namespace {

std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void remember(int number) {
  g_signal.store(number);
  std::signal(number, SIG_DFL);
}

}  // namespace

void watch_for_signals() {
  for (const int number : {SIGINT, SIGTERM}) std::signal(number, remember);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit becomes EFBIG, which is reported
}

int interrupted_by() { return g_signal.load(); }

}  // namespace spillway::aio_bench
