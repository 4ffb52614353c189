// A Backend of plain pread and pwrite: `queue_depth` threads, one operation each at a time.
#include <spillway/aio/backend.h>
#include <spillway/aio/mutex.h>
#include <spillway/aio/signals.h>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "write_back.h"

namespace spillway::aio {
namespace {

// A ring of fixed capacity: operations and events never allocate.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : slots_(capacity) {}
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  void push(const T& value) { slots_[(first_ + size_++) % slots_.size()] = value; }
  T pop() {
    T value = slots_[first_];
    first_ = (first_ + 1) % slots_.size();
    --size_;
    return value;
  }

 private:
  std::vector<T> slots_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

// What the Backend and its threads share.
struct Shared {
  explicit Shared(std::uint32_t depth) : queue_depth(depth), todo(depth), finished(depth) {}

  const std::uint32_t queue_depth;
  Mutex mutex;
  CondVar has_todo;
  CondVar has_news;
  BoundedQueue<Operation> todo SPILLWAY_GUARDED_BY(mutex);
  BoundedQueue<Event> finished SPILLWAY_GUARDED_BY(mutex);
  std::uint32_t in_flight SPILLWAY_GUARDED_BY(mutex) = 0;  // taken and not reaped
  bool awake SPILLWAY_GUARDED_BY(mutex) = false;
  bool stop SPILLWAY_GUARDED_BY(mutex) = false;
  std::atomic<std::uint64_t> system_calls{0};

  bool news() const SPILLWAY_REQUIRES(mutex) { return awake || !finished.empty(); }
};

std::int32_t transfer(const Operation& operation) {
  if (operation.write_back) {
    return write_back(operation.fd, operation.offset, operation.size_bytes);
  }
  auto offset = static_cast<off_t>(operation.offset);
  ssize_t n = operation.direction == Direction::kRead
                  ? ::pread(operation.fd, operation.data, operation.size_bytes, offset)
                  : ::pwrite(operation.fd, operation.data, operation.size_bytes, offset);
  return n < 0 ? -errno : static_cast<std::int32_t>(n);
}

void serve(Shared& shared) {
  MutexLock lock(shared.mutex);
  while (true) {
    while (!shared.stop && shared.todo.empty()) shared.has_todo.wait(lock);
    if (shared.todo.empty()) return;
    Operation operation = shared.todo.pop();
    lock.unlock();
    Event event{.user_data = operation.user_data, .result = transfer(operation)};
    shared.system_calls.fetch_add(1, std::memory_order_relaxed);
    lock.lock();
    shared.finished.push(event);
    shared.has_news.notify_one();
  }
}

class ThreadPoolBackend final : public Backend {
 public:
  explicit ThreadPoolBackend(std::uint32_t queue_depth)
      : shared_(std::make_shared<Shared>(queue_depth)) {}

  // Throws std::system_error where the machine has no more threads.
  void start() {
    threads_.reserve(shared_->queue_depth);  // a thread that runs must not be lost below
    for (std::uint32_t i = 0; i < shared_->queue_depth; ++i) {
      threads_.push_back(thread_without_signals([shared = shared_] { serve(*shared); }));
    }
  }

  // A thread that the kernel never lets go (a dead disk) must not hang the program's end: with
  // operations unreaped the threads are left to themselves. That is why Shared is shared.
  ~ThreadPoolBackend() override {
    bool idle = false;
    {
      MutexLock lock(shared_->mutex);
      shared_->stop = true;
      idle = shared_->in_flight == 0;
    }
    shared_->has_todo.notify_all();
    for (std::thread& thread : threads_) idle ? thread.join() : thread.detach();
  }

  const char* name() const noexcept override { return "threads"; }

  std::size_t submit(std::span<const Operation> operations) override {
    std::size_t taken = 0;
    {
      MutexLock lock(shared_->mutex);
      while (taken < operations.size() && shared_->in_flight < shared_->queue_depth) {
        shared_->todo.push(operations[taken++]);
        ++shared_->in_flight;
      }
    }
    for (std::size_t i = 0; i < taken; ++i) shared_->has_todo.notify_one();
    return taken;
  }

  std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) override {
    MutexLock lock(shared_->mutex);
    if (timeout == kForever) {
      while (!shared_->news()) shared_->has_news.wait(lock);
    } else if (!shared_->news() && timeout > timeout.zero()) {
      shared_->has_news.wait_for(
          lock, timeout, [this]() SPILLWAY_REQUIRES(shared_->mutex) { return shared_->news(); });
    }
    shared_->awake = false;
    std::size_t n = 0;
    while (n < events.size() && !shared_->finished.empty()) events[n++] = shared_->finished.pop();
    shared_->in_flight -= static_cast<std::uint32_t>(n);
    return n;
  }

  // Cancels operations that no thread has started; a running pread cannot be cancelled.
  void cancel_all() override {
    MutexLock lock(shared_->mutex);
    while (!shared_->todo.empty()) {
      shared_->finished.push({.user_data = shared_->todo.pop().user_data, .result = -ECANCELED});
    }
  }

  void cancel(std::uint64_t user_data) override {
    MutexLock lock(shared_->mutex);
    for (std::size_t left = shared_->todo.size(); left > 0; --left) {
      Operation operation = shared_->todo.pop();
      if (operation.user_data == user_data) {
        shared_->finished.push({.user_data = user_data, .result = -ECANCELED});
      } else {
        shared_->todo.push(operation);
      }
    }
  }

  void wake() noexcept override {
    MutexLock lock(shared_->mutex);
    shared_->awake = true;
    shared_->has_news.notify_one();
  }

  // pread and pwrite know no registration.
  Result<void> register_memory(std::span<std::byte>) override { return {}; }
  void unregister_memory(std::span<std::byte>) override {}
  void register_file(int) override {}
  void unregister_file(int) override {}

  std::uint64_t system_calls() const noexcept override {
    return shared_->system_calls.load(std::memory_order_relaxed);
  }

 private:
  std::shared_ptr<Shared> shared_;
  std::vector<std::thread> threads_;
};

class ThreadPoolFactory final : public BackendFactory {
 public:
  Result<std::unique_ptr<Backend>> make(std::uint32_t queue_depth) override {
    auto backend = std::make_unique<ThreadPoolBackend>(queue_depth);
    try {
      backend->start();
    } catch (const std::system_error& error) {
      return errno_error("start I/O threads", "", error.code().value(),
                         std::to_string(queue_depth) +
                             " threads were asked for by queue_depth; a limit of processes "
                             "(ulimit -u, the cgroup's pids.max) forbids them");
    }
    return backend;
  }
};

}  // namespace

std::unique_ptr<BackendFactory> thread_pool_backend() {
  return std::make_unique<ThreadPoolFactory>();
}

}  // namespace spillway::aio
