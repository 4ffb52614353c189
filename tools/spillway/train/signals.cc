#include "tools/spillway/train/signals.h"

#include <csignal>

namespace spillway::tools {
namespace {

std::atomic<bool> g_stop_now{false};
std::atomic<bool> g_stop_after_step{false};

void stop_at_once(int signal) {
  g_stop_now.store(true);
  std::signal(signal, SIG_DFL);
}

void stop_when_saved(int signal) {
  if (!g_stop_after_step.exchange(true)) return;
  stop_at_once(signal);
}

}  // namespace

const std::atomic<bool>& stop_now() { return g_stop_now; }
const std::atomic<bool>& stop_after_step() { return g_stop_after_step; }

void listen_to_signals(bool saves) {
  std::signal(SIGINT, stop_at_once);
  for (const int signal : {SIGTERM, SIGUSR1}) {
    std::signal(signal, saves ? stop_when_saved : stop_at_once);
  }
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit becomes EFBIG, which is reported
}

}  // namespace spillway::tools
