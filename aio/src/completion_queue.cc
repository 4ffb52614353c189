#include <spillway/aio/check.h>
#include <spillway/aio/completion_queue.h>
#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <spillway/aio/patience.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

namespace spillway::aio {
namespace {

constexpr std::size_t kMostRequests = std::size_t{1} << 24;

}  // namespace

class CompletionQueue::State {
 public:
  explicit State(std::size_t capacity) : entries_(capacity) {}
  ~State() {
    if (fd_ >= 0) ::close(fd_);
  }

  // In a forked child no function below may lock.
  const OwnerProcess& owner() const noexcept { return owner_; }

  void expect() {
    if (!owner_.is_here()) return;
    const MutexLock lock(mutex_);
    SPILLWAY_CHECK(expected_ < entries_.size(), "the queue is full: take Completions first");
    ++expected_;
  }

  // A callback was dropped before it was called.
  void expect_one_less() noexcept {
    if (!owner_.is_here()) return;
    const MutexLock lock(mutex_);
    --expected_;
    changed_.notify_all();
  }

  void put(std::uint64_t tag, Completion completion) {
    if (!owner_.is_here()) return;
    const MutexLock lock(mutex_);
    Entry& entry = entries_[(first_ + count_++) % entries_.size()];
    entry.tag = tag;
    entry.completion.buffer = std::move(completion.buffer);
    entry.completion.transferred = std::move(completion.transferred);
    if (count_ == 1) show();
    // Under the lock: the queue may be gone once it is released.
    changed_.notify_all();
  }

  std::optional<Entry> try_take() {
    if (!owner_.is_here()) return std::nullopt;
    const MutexLock lock(mutex_);
    return take();
  }

  std::optional<Entry> wait(std::chrono::nanoseconds timeout) {
    if (!owner_.is_here()) return std::nullopt;
    const auto some = [this]() SPILLWAY_REQUIRES(mutex_) { return count_ > 0; };
    const auto deadline = Patience::after(timeout);
    MutexLock lock(mutex_);
    if (deadline == std::chrono::steady_clock::time_point::max()) {
      changed_.wait(lock, some);
    } else {
      changed_.wait_running_until(lock, deadline, some);
    }
    return take();
  }

  void wait_for_all() {
    MutexLock lock(mutex_);
    while (expected_ > count_) changed_.wait(lock);
  }

  std::size_t expected() const {
    if (!owner_.is_here()) return 0;
    const MutexLock lock(mutex_);
    return expected_;
  }

  Result<int> fd() {
    if (!owner_.is_here()) return tl::unexpected(owner_.error("make an eventfd"));
    const MutexLock lock(mutex_);
    if (fd_ >= 0) return fd_;
    fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd_ < 0) return errno_error("make an eventfd", "", errno);
    if (count_ > 0) show();
    return fd_;
  }

 private:
  std::optional<Entry> take() SPILLWAY_REQUIRES(mutex_) {
    if (count_ == 0) return std::nullopt;
    Entry entry = std::move(entries_[first_]);
    first_ = (first_ + 1) % entries_.size();
    --expected_;
    if (--count_ == 0) hide();
    return entry;
  }

  // The descriptor's counter is 1 while there are entries, else 0: neither call blocks.
  void show() SPILLWAY_REQUIRES(mutex_) {
    const std::uint64_t one = 1;
    if (fd_ >= 0) SPILLWAY_CHECK(::write(fd_, &one, sizeof one) == sizeof one, "an eventfd failed");
  }
  void hide() SPILLWAY_REQUIRES(mutex_) {
    std::uint64_t value = 0;
    if (fd_ >= 0) {
      SPILLWAY_CHECK(::read(fd_, &value, sizeof value) == sizeof value,
                     "somebody read from the queue's descriptor");
    }
  }

  const OwnerProcess owner_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Entry> entries_ SPILLWAY_GUARDED_BY(mutex_);  // a ring
  std::size_t first_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  std::size_t count_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  std::size_t expected_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  int fd_ SPILLWAY_GUARDED_BY(mutex_) = -1;
};

// The callback of one request.
class CompletionQueue::Place {
 public:
  Place(State* state, std::uint64_t tag) : state_(state), tag_(tag) { state->expect(); }
  Place(Place&& other) noexcept : state_(std::exchange(other.state_, nullptr)), tag_(other.tag_) {}
  Place& operator=(Place&&) = delete;
  ~Place() {
    if (state_ != nullptr) state_->expect_one_less();
  }
  void operator()(Completion completion) {
    std::exchange(state_, nullptr)->put(tag_, std::move(completion));
  }

 private:
  State* state_;
  std::uint64_t tag_;
};

Result<std::unique_ptr<CompletionQueue>> CompletionQueue::create(std::size_t capacity) {
  SPILLWAY_CHECK(capacity > 0 && capacity <= kMostRequests,
                 "a completion queue is for 1 to 16777216 requests");
  return or_no_memory("make a completion queue", [&]() -> Result<std::unique_ptr<CompletionQueue>> {
    return std::unique_ptr<CompletionQueue>(new CompletionQueue(std::make_unique<State>(capacity)));
  });
}

CompletionQueue::CompletionQueue(std::unique_ptr<State> state) : state_(std::move(state)) {}
CompletionQueue::~CompletionQueue() {
  if (!state_->owner().is_here()) {
    // A thread of the parent may have been about to change it.
    [[maybe_unused]] const State* const kept = state_.release();
    return;
  }
  state_->wait_for_all();
}

Callback CompletionQueue::callback(std::uint64_t tag) { return Place(state_.get(), tag); }
std::size_t CompletionQueue::expected() const noexcept { return state_->expected(); }
std::optional<CompletionQueue::Entry> CompletionQueue::try_take() { return state_->try_take(); }
std::optional<CompletionQueue::Entry> CompletionQueue::wait(std::chrono::nanoseconds timeout) {
  return state_->wait(timeout);
}
Result<int> CompletionQueue::fd() { return state_->fd(); }

}  // namespace spillway::aio
