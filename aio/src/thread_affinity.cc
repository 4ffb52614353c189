#include "thread_affinity.h"

#include <pthread.h>
#include <sched.h>

#include <string>

namespace spillway::aio {

static_assert(kMaxCpus == CPU_SETSIZE);

Result<void> run_this_thread_on(const std::vector<int>& cpus) {
  if (cpus.empty()) return {};
  cpu_set_t set;
  CPU_ZERO(&set);
  std::string list;
  for (const int cpu : cpus) {
    CPU_SET(static_cast<std::size_t>(cpu), &set);
    list += (list.empty() ? "" : ", ") + std::to_string(cpu);
  }
  if (int rc = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); rc != 0) {
    return errno_error("bind an engine thread", "", rc,
                       "to CPUs " + list + ", of which this process may use none");
  }
  return {};
}

}  // namespace spillway::aio
