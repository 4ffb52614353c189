// The Backend on io_uring: one ring, used by one thread.
//
// io_uring_submit_and_wait_timeout both starts what submit() queued and waits, so a batch costs one
// system call. `wake` reaches a thread that waits in the kernel through an eventfd under a
// multishot poll: no read and no re-arming per wake.
#include <spillway/aio/backend.h>

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "io_uring_access.h"
#include "registered_memory.h"
#include "write_back.h"

// Newer than the headers of Linux 5.18; the value is the kernel's ABI.
#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7)
#endif

namespace spillway::aio {
namespace {

// Not all ones: liburing keeps that value for itself.
constexpr std::uint64_t kWakeData = ~std::uint64_t{1};
constexpr std::uint64_t kCancelData = ~std::uint64_t{2};
constexpr std::uint16_t kMemorySlots = 1024;  // of at most 1 GiB each
constexpr unsigned kFileSlots = 128;          // well under the usual RLIMIT_NOFILE of 1024
constexpr unsigned kOwnEntries = 2;           // the poll for wake, a cancel

class IoUringBackend final : public Backend {
 public:
  explicit IoUringBackend(std::uint32_t queue_depth)
      : queue_depth_(queue_depth), memory_(kMemorySlots), files_(kFileSlots, -1) {}
  ~IoUringBackend() override {
    if (ring_ready_) io_uring_queue_exit(&ring_);
    if (wake_fd_ >= 0) ::close(wake_fd_);
  }

  Result<void> start();

  const char* name() const noexcept override { return "io_uring"; }
  std::size_t submit(std::span<const Operation> operations) override;
  std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) override;
  void cancel_all() override;
  void cancel(std::uint64_t user_data) override;
  void wake() noexcept override {
    std::uint64_t one = 1;
    // The counter never gets near its end, so this cannot block and need not be judged.
    [[maybe_unused]] ssize_t n = ::write(wake_fd_, &one, sizeof one);
  }
  Result<void> register_memory(std::span<std::byte> memory) override;
  void unregister_memory(std::span<std::byte> memory) override;
  void register_file(int fd) override;
  void unregister_file(int fd) override;
  std::uint64_t system_calls() const noexcept override { return system_calls_; }

 private:
  int setup();
  void arm_wake();
  bool push_cancel(std::uint64_t user_data, int flags);
  void push_kept_cancels();
  void prepare(io_uring_sqe* sqe, const Operation& operation) const;
  int update_slot(const RegisteredMemory::Slot& slot, std::byte* data, std::size_t size_bytes);
  std::size_t take_completions(std::span<Event> events);

  const std::uint32_t queue_depth_;
  io_uring ring_{};
  bool ring_ready_ = false;
  int wake_fd_ = -1;
  bool wake_armed_ = false;
  bool woken_ = false;
  std::uint32_t in_flight_ = 0;
  std::vector<std::uint64_t> kept_cancels_;  // user_data
  bool cancel_all_kept_ = false;
  std::uint64_t system_calls_ = 0;
  bool memory_table_ = false;
  bool file_table_ = false;
  RegisteredMemory memory_;
  std::vector<int> files_;  // fd of each slot of the file table, -1 = free
};

// The best flags first; older kernels answer EINVAL to what they do not know. DEFER_TASKRUN (6.1)
// runs completions only when this thread asks for them, and needs SINGLE_ISSUER.
int IoUringBackend::setup() {
  constexpr std::array<unsigned, 3> kFlags = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0};
  unsigned entries = queue_depth_ + kOwnEntries;
  int rc = -EINVAL;
  for (unsigned flags : kFlags) {
    io_uring_params params{};
    // Completions are at most what is in flight, plus wakes: twice the depth and some never
    // overflows in normal running (the kernel keeps what does, and reap flushes it).
    params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = 2 * entries + 64;
    rc = io_uring_queue_init_params(entries, &ring_, &params);
    if (rc != -EINVAL) break;
  }
  return rc;
}

Result<void> IoUringBackend::start() {
  if (int rc = setup(); rc != 0) {
    Refusal refusal = explain_io_uring_refusal(-rc);
    std::string detail = refusal.reason;
    if (!refusal.fix.empty()) detail += "; " + refusal.fix;
    return errno_error("io_uring_setup", "", -rc, detail);
  }
  ring_ready_ = true;
  if ((ring_.features & IORING_FEAT_RSRC_TAGS) == 0) {
    return make_error(ErrorKind::kUnsupported, "io_uring_setup", "",
                      "the kernel's io_uring is older than Linux 5.13");
  }
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) return errno_error("eventfd", "", errno);
  // Sparse tables came with 5.19; without them memory and files work unregistered.
  memory_table_ = io_uring_register_buffers_sparse(&ring_, kMemorySlots) == 0;
  file_table_ = io_uring_register_files_sparse(&ring_, kFileSlots) == 0;
  return {};
}

void IoUringBackend::arm_wake() {
  io_uring_sqe* sqe = wake_armed_ ? nullptr : io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return;
  io_uring_prep_poll_multishot(sqe, wake_fd_, POLLIN);
  io_uring_sqe_set_data64(sqe, kWakeData);
  wake_armed_ = true;
}

void IoUringBackend::prepare(io_uring_sqe* sqe, const Operation& operation) const {
  int fd = operation.fd;
  bool fixed_file = false;
  if (operation.registered_file) {
    auto found = std::find(files_.begin(), files_.end(), fd);
    fixed_file = found != files_.end();
    if (fixed_file) fd = static_cast<int>(found - files_.begin());
  }
  auto slot =
      operation.write_back ? std::nullopt : memory_.find(operation.data, operation.size_bytes);
  bool read = operation.direction == Direction::kRead;
  if (operation.write_back) {
    io_uring_prep_sync_file_range(sqe, fd, operation.size_bytes, operation.offset, kWriteBackFlags);
  } else if (slot && read) {
    io_uring_prep_read_fixed(sqe, fd, operation.data, operation.size_bytes, operation.offset,
                             *slot);
  } else if (slot) {
    io_uring_prep_write_fixed(sqe, fd, operation.data, operation.size_bytes, operation.offset,
                              *slot);
  } else if (read) {
    io_uring_prep_read(sqe, fd, operation.data, operation.size_bytes, operation.offset);
  } else {
    io_uring_prep_write(sqe, fd, operation.data, operation.size_bytes, operation.offset);
  }
  if (fixed_file) sqe->flags |= IOSQE_FIXED_FILE;
  io_uring_sqe_set_data64(sqe, operation.user_data);
}

std::size_t IoUringBackend::submit(std::span<const Operation> operations) {
  std::size_t taken = 0;
  // The ring has room for queue_depth_ and our own entries, unless the kernel left some of the last
  // batch untaken: then fewer are taken here, and the next reap pushes the rest.
  while (taken < operations.size() && in_flight_ < queue_depth_ &&
         io_uring_sq_space_left(&ring_) > kOwnEntries) {
    prepare(io_uring_get_sqe(&ring_), operations[taken]);
    ++taken;
    ++in_flight_;
  }
  return taken;
}

std::size_t IoUringBackend::take_completions(std::span<Event> events) {
  std::size_t n = 0;
  unsigned seen = 0;
  unsigned head = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    if (cqe->user_data == kWakeData) {
      woken_ = true;
      if ((cqe->flags & IORING_CQE_F_MORE) == 0) wake_armed_ = false;
    } else if (cqe->user_data != kCancelData) {
      if (n == events.size()) break;
      events[n++] = {.user_data = cqe->user_data, .result = cqe->res};
    }
    ++seen;
  }
  io_uring_cq_advance(&ring_, seen);
  in_flight_ -= static_cast<std::uint32_t>(n);
  return n;
}

std::size_t IoUringBackend::reap(std::span<Event> events, std::chrono::nanoseconds timeout) {
  arm_wake();
  push_kept_cancels();
  std::size_t n = take_completions(events);
  bool wait = n == 0 && !woken_ && timeout > timeout.zero();
  if (n == 0 || io_uring_sq_ready(&ring_) > 0) {
    ++system_calls_;
    int rc = 0;
    if (wait && timeout == kForever) {
      rc = io_uring_submit_and_wait(&ring_, 1);  // costs the kernel no timer
    } else if (wait) {
      auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
      __kernel_timespec time{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
      io_uring_cqe* cqe = nullptr;
      rc = io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &time, nullptr);
    } else {
      rc = io_uring_submit_and_get_events(&ring_);
    }
    // EINTR, ETIME: the caller looks again. EBUSY: completions must be taken first, which happens
    // below. EAGAIN: the kernel has no memory for requests now; what it did not take stays in the
    // ring and goes with the next call, a little later.
    if (rc == -EAGAIN && n == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    n += take_completions(events.subspan(n));
  }
  woken_ = false;
  return n;
}

void IoUringBackend::cancel_all() {
  // ANY also takes the poll for wake, which the next reap arms again.
  cancel_all_kept_ = !push_cancel(0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
}

void IoUringBackend::cancel(std::uint64_t user_data) {
  if (!push_cancel(user_data, 0)) kept_cancels_.push_back(user_data);
}

// Those for which the ring had no room.
void IoUringBackend::push_kept_cancels() {
  if (cancel_all_kept_) cancel_all();
  while (!kept_cancels_.empty() && push_cancel(kept_cancels_.back(), 0)) kept_cancels_.pop_back();
}

// False if the ring is full, and the kernel takes nothing now.
bool IoUringBackend::push_cancel(std::uint64_t user_data, int flags) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {  // many cancels at once: room is made
    ++system_calls_;
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  if (sqe == nullptr) return false;
  io_uring_prep_cancel64(sqe, user_data, flags);
  io_uring_sqe_set_data64(sqe, kCancelData);
  return true;
}

int IoUringBackend::update_slot(const RegisteredMemory::Slot& slot, std::byte* data,
                                std::size_t size_bytes) {
  iovec memory{.iov_base = data, .iov_len = size_bytes};
  __u64 tag = 0;
  int rc = io_uring_register_buffers_update_tag(&ring_, slot.index, &memory, &tag, 1);
  return rc < 0 ? -rc : 0;
}

Result<void> IoUringBackend::register_memory(std::span<std::byte> memory) {
  if (memory.empty()) return {};
  if (!memory_table_) {
    return make_error(ErrorKind::kUnsupported, "register memory", "",
                      "sparse tables of registered buffers need Linux 5.19");
  }
  std::vector<RegisteredMemory::Slot> slots = memory_.plan(memory);
  if (slots.empty()) {
    return make_error(ErrorKind::kNoMemory, "register memory", "",
                      "the ring's table of " + std::to_string(kMemorySlots) + " buffers is full");
  }
  for (const RegisteredMemory::Slot& slot : slots) {
    int rc = update_slot(slot, slot.data, slot.size_bytes);
    if (rc == 0) {
      memory_.add(slot);
      continue;
    }
    unregister_memory(memory);
    std::string detail = std::to_string(memory.size()) + " bytes";
    if (rc == ENOMEM || rc == EPERM) {
      detail +=
          " do not fit into RLIMIT_MEMLOCK (each I/O thread counts them); raise it with "
          "ulimit -l unlimited";
    } else if (rc == EOPNOTSUPP) {
      detail += " are backed by a file of a kind that cannot be registered";
    }
    return errno_error("register memory", "", rc, detail);
  }
  return {};
}

void IoUringBackend::unregister_memory(std::span<std::byte> memory) {
  for (const RegisteredMemory::Slot& slot : memory_.take(memory)) update_slot(slot, nullptr, 0);
}

void IoUringBackend::register_file(int fd) {
  auto slot = std::find(files_.begin(), files_.end(), -1);
  if (!file_table_ || slot == files_.end()) return;
  auto index = static_cast<unsigned>(slot - files_.begin());
  if (io_uring_register_files_update(&ring_, index, &fd, 1) == 1) *slot = fd;
}

void IoUringBackend::unregister_file(int fd) {
  auto slot = std::find(files_.begin(), files_.end(), fd);
  if (slot == files_.end()) return;
  int none = -1;
  io_uring_register_files_update(&ring_, static_cast<unsigned>(slot - files_.begin()), &none, 1);
  *slot = -1;
}

class IoUringFactory final : public BackendFactory {
 public:
  Result<std::unique_ptr<Backend>> make(std::uint32_t queue_depth) override {
    auto backend = std::make_unique<IoUringBackend>(queue_depth);
    if (auto started = backend->start(); !started) {
      return tl::unexpected(std::move(started.error()));
    }
    return backend;
  }
};

}  // namespace

std::unique_ptr<BackendFactory> io_uring_backend() { return std::make_unique<IoUringFactory>(); }

}  // namespace spillway::aio
