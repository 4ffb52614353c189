#include <liburing.h>
#include <spillway/aio/probe.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "io_uring_access.h"

namespace spillway::aio {
namespace {

// A small ring for as long as a question to the kernel takes.
class TrialRing {
 public:
  explicit TrialRing(unsigned flags) : rc_(io_uring_queue_init(4, &ring_, flags)) {}
  ~TrialRing() {
    if (rc_ == 0) io_uring_queue_exit(&ring_);
  }
  TrialRing(const TrialRing&) = delete;
  TrialRing& operator=(const TrialRing&) = delete;
  int errno_value() const { return -rc_; }
  io_uring* get() { return &ring_; }

 private:
  io_uring ring_{};
  int rc_;
};

std::string errno_name(int errno_value) {
  const char* name = ::strerrorname_np(errno_value);
  return name != nullptr ? name : "errno " + std::to_string(errno_value);
}

// How much memory an unprivileged user may register, in words.
std::string memlock() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "RLIMIT_MEMLOCK is unknown";
  if (limit.rlim_cur == RLIM_INFINITY) return "RLIMIT_MEMLOCK is unlimited";
  return "RLIMIT_MEMLOCK is " + std::to_string(limit.rlim_cur) +
         " bytes (it does not bind a process with CAP_IPC_LOCK)";
}

Capability issuer_flags() {
  Capability result{.name = "SINGLE_ISSUER + DEFER_TASKRUN"};
  TrialRing ring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  result.available = ring.errno_value() == 0;
  if (result.available) {
    result.reason = "completions are run by the thread that asks for them";
  } else {
    result.reason = errno_name(ring.errno_value()) + ": the kernel is older than Linux 6.1";
    result.fix = "nothing must be done: plainer flags are used, at some cost in CPU time";
  }
  return result;
}

Capability registered_buffers(TrialRing& ring) {
  Capability result{.name = "registered buffers"};
  if (int rc = io_uring_register_buffers_sparse(ring.get(), 1); rc < 0) {
    result.reason = errno_name(-rc) + ": sparse tables of buffers need Linux 5.19";
    result.fix = "nothing must be done: each transfer pins its pages instead";
    return result;
  }
  auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::unique_ptr<void, decltype(&std::free)> page(std::aligned_alloc(page_bytes, page_bytes),
                                                   &std::free);
  iovec memory{.iov_base = page.get(), .iov_len = page_bytes};
  __u64 tag = 0;
  int rc = io_uring_register_buffers_update_tag(ring.get(), 0, &memory, &tag, 1);
  result.available = rc >= 0;
  result.reason = (rc < 0 ? errno_name(-rc) + ": " : "") + memlock();
  if (rc < 0) result.fix = "raise the limit of locked memory (ulimit -l unlimited)";
  return result;
}

Capability registered_files(TrialRing& ring) {
  Capability result{.name = "registered files"};
  int rc = io_uring_register_files_sparse(ring.get(), 1);
  result.available = rc >= 0;
  result.reason = rc >= 0 ? "the kernel need not look descriptors up"
                          : errno_name(-rc) + ": sparse tables of files need Linux 5.19";
  return result;
}

}  // namespace

std::vector<Capability> probe_kernel() {
  std::vector<Capability> result;
  TrialRing ring(0);
  Capability io_uring{.name = "io_uring", .available = ring.errno_value() == 0};
  if (!io_uring.available) {
    Refusal refusal = explain_io_uring_refusal(ring.errno_value());
    io_uring.reason = refusal.reason;
    io_uring.fix = refusal.fix;
    result.push_back(io_uring);
    for (const char* name :
         {"SINGLE_ISSUER + DEFER_TASKRUN", "registered buffers", "registered files"}) {
      result.push_back({.name = name, .reason = "there is no io_uring"});
    }
    return result;
  }
  io_uring.available = (ring.get()->features & IORING_FEAT_RSRC_TAGS) != 0;
  io_uring.reason = io_uring.available ? "io_uring_setup works"
                                       : "the kernel's io_uring is older than Linux 5.13";
  result.push_back(io_uring);
  result.push_back(issuer_flags());
  result.push_back(registered_buffers(ring));
  result.push_back(registered_files(ring));
  return result;
}

}  // namespace spillway::aio
