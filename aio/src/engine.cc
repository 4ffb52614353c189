#include <spillway/aio/check.h>
#include <spillway/aio/engine.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>
#include <vector>

#include "callers_moves.h"
#include "engine_thread.h"
#include "forked_child.h"
#include "request.h"
#include "thread_affinity.h"
#include "work_queue.h"

namespace spillway::aio {
namespace {

std::unique_ptr<BackendFactory> factory_of(BackendKind kind) {
  return kind == BackendKind::kThreadPool ? thread_pool_backend() : io_uring_backend();
}

Result<void> out_of_range(const char* field, std::uint64_t value, const char* allowed) {
  return make_error(ErrorKind::kInvalid, "engine options", "",
                    std::string(field) + " is " + std::to_string(value) + ", must be " + allowed);
}

}  // namespace

Result<void> validate(const EngineOptions& options) {
  constexpr std::uint32_t kBlockUnit = 4096;
  constexpr std::uint32_t kLargestBlock = 1 << 30;
  if (options.block_size_bytes == 0 || options.block_size_bytes % kBlockUnit != 0 ||
      options.block_size_bytes > kLargestBlock) {
    return out_of_range("block_size", options.block_size_bytes,
                        "a positive multiple of 4096 bytes, at most 1073741824");
  }
  if (options.queue_depth < 1 || options.queue_depth > 4096) {
    return out_of_range("queue_depth", options.queue_depth, "1 to 4096");
  }
  if (options.thread_count < 1 || options.thread_count > 64) {
    return out_of_range("thread_count", options.thread_count, "1 to 64");
  }
  for (const int cpu : options.cpus) {
    if (cpu >= 0 && cpu < kMaxCpus) continue;
    return make_error(ErrorKind::kInvalid, "engine options", "",
                      "cpus has " + std::to_string(cpu) + ", must be 0 to 1023");
  }
  if (options.drain_timeout.count() < 0) {
    return make_error(ErrorKind::kInvalid, "engine options", "", "drain_timeout is negative");
  }
  return {};
}

class Engine::Impl {
 public:
  explicit Impl(const EngineOptions& options)
      : options_(options),
        pool_(std::make_shared<RequestPool>(kMaxPending)),
        queue_(options),
        callers_moves_(options_) {
    pool_->set_queue(&queue_);
  }

  ~Impl() {
    SPILLWAY_CHECK(!on_engine_thread(pool_.get()) && !in_callback_of(pool_.get()),
                   "an Engine must not be destroyed in a callback of its own");
    queue_.stop();
    for (auto& thread : threads_) thread->join();
    pool_->set_queue(nullptr);
  }

  Result<void> start(BackendFactory& factory) {
    threads_.reserve(options_.thread_count);  // a thread that runs must not be lost below
    for (std::uint32_t i = 0; i < options_.thread_count; ++i) {
      auto thread = std::make_unique<EngineThread>(queue_, options_, pool_.get(), i);
      if (auto started = thread->start(factory); !started) return started;
      threads_.push_back(std::move(thread));
    }
    return {};
  }

  static void check(Direction direction, const Request& request, const Buffer& buffer) {
    SPILLWAY_CHECK(request.file != nullptr && request.file->fd() >= 0, "a request needs a File");
    SPILLWAY_CHECK(request.buffer_offset <= buffer.capacity() &&
                       request.size_bytes <= buffer.capacity() - request.buffer_offset,
                   "the request does not fit into its Buffer");
    SPILLWAY_CHECK(direction == Direction::kRead || request.file->writable(),
                   "a write needs a File that was opened writable");
  }

  PendingRequest* prepare(Direction direction, const Request& request, Buffer buffer,
                          Callback callback, int references) {
    check(direction, request, buffer);
    PendingRequest* pending = pool_->take();
    pending->begin(direction, request, std::move(buffer), std::move(callback));
    pending->references.store(references, std::memory_order_relaxed);
    pending->pool = pool_;
    return pending;
  }

  // Those that cannot be carried out end at once.
  void push(std::span<PendingRequest* const> requests) {
    for (PendingRequest* pending :
         requests.subspan(queue_.push(requests, /*may_block=*/!on_any_engine_thread()))) {
      pending->failure = engine_destroyed();
      pending->failed_at = pending->offset;
      complete(pending);
    }
  }

  PendingRequest* submit(Direction direction, const Request& request, Buffer buffer,
                         Callback callback, int references) {
    if (!owner().is_here()) {
      check(direction, request, buffer);
      return refuse_in_child(owner(), direction, request, std::move(buffer), std::move(callback),
                             /*wants_ticket=*/references > 1);
    }
    PendingRequest* pending =
        prepare(direction, request, std::move(buffer), std::move(callback), references);
    if (pending->failure) {
      complete(pending);
    } else {
      push({&pending, 1});
    }
    return pending;
  }

  void submit(std::span<Submission> batch) {
    std::array<PendingRequest*, 64> ready;
    while (!batch.empty()) {
      std::size_t count = 0;
      const auto part = batch.first(std::min(batch.size(), ready.size()));
      for (Submission& given : part) {
        SPILLWAY_CHECK(static_cast<bool>(given.callback), "the callback is empty");
        if (!owner().is_here()) {
          submit(given.direction, given.request, std::move(given.buffer), std::move(given.callback),
                 1);
          continue;
        }
        PendingRequest* pending = prepare(given.direction, given.request, std::move(given.buffer),
                                          std::move(given.callback), 1);
        if (pending->failure) {
          complete(pending);
        } else {
          ready[count++] = pending;
        }
      }
      push(std::span(ready).first(count));
      batch = batch.subspan(part.size());
    }
  }

  Completion move_and_wait(Direction direction, const Request& request, Buffer buffer) {
    check(direction, request, buffer);
    SPILLWAY_CHECK(!on_engine_thread(pool_.get()),
                   "a callback must not wait for a request of its own engine");
    std::byte* const data = buffer.data() + request.buffer_offset;
    const std::size_t most = std::size_t{options_.queue_depth} * options_.thread_count;
    if (callers_may_move_ && owner().is_here() && callers_moves_.suits(direction, request, data) &&
        queue_.begin_callers_move(most)) {
      const bool moved = callers_moves_.move(direction, request, data);
      queue_.end_callers_move();
      if (moved) return {.buffer = std::move(buffer), .transferred = request.size_bytes};
    }
    return Ticket(submit(direction, request, std::move(buffer), nullptr, 2)).wait();
  }

  const OwnerProcess& owner() const noexcept { return pool_->owner(); }

  // Runs `function(thread)` on every engine thread, one after another; on none in a forked child.
  template <typename Function>
  void on_each_thread(Function function) {
    if (!owner().is_here()) return;  // nobody would run it
    SPILLWAY_CHECK(!on_engine_thread(pool_.get()), "a callback must not wait for its own engine");
    for (auto& thread : threads_) {
      Command command{.run = [&] { function(*thread); }};
      queue_.run_on(*thread, command);
    }
  }

  Result<void> register_memory(std::span<std::byte> memory) {
    if (!owner().is_here()) return tl::unexpected(owner().error("register memory"));
    Result<void> result;
    on_each_thread([&](EngineThread& thread) {
      if (result) result = thread.register_memory(memory);
    });
    if (!result) {
      unregister_memory(memory);
      options_.log(LogLevel::kWarning, "memory works unregistered: " + result.error().message());
    }
    return result;
  }

  void unregister_memory(std::span<std::byte> memory) {
    on_each_thread([&](EngineThread& thread) { thread.unregister_memory(memory); });
  }

  const EngineOptions options_;
  std::string choice_;
  std::shared_ptr<RequestPool> pool_;  // shared with the Tickets, which may outlive the Engine
  WorkQueue queue_;
  CallersMoves callers_moves_;
  bool callers_may_move_ = false;  // pread and pwrite do what the Backend does
  std::vector<std::unique_ptr<EngineThread>> threads_;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

// In a forked child there are no threads to join, and the rings are the parent's.
Engine::~Engine() {
  if (!impl_->owner().is_here()) std::ignore = impl_.release();
}

Result<std::unique_ptr<Engine>> Engine::create(const EngineOptions& options) {
  return or_no_memory("make an engine", [&]() -> Result<std::unique_ptr<Engine>> {
    if (auto valid = validate(options); !valid) return tl::unexpected(std::move(valid.error()));
    auto engine = create(options, factory_of(options.backend));
    if (!engine && options.backend == BackendKind::kAuto) {
      const std::string why = engine.error().message();
      engine = create(options, factory_of(BackendKind::kThreadPool));
      if (engine) {
        (*engine)->impl_->choice_ = "threads: " + why;
        options.log(LogLevel::kWarning, "a thread pool moves the bytes, not io_uring: " + why);
      }
    }
    if (engine) (*engine)->impl_->callers_may_move_ = true;
    return engine;
  });
}

Result<std::unique_ptr<Engine>> Engine::create(const EngineOptions& options,
                                               std::unique_ptr<BackendFactory> factory) {
  return or_no_memory("make an engine", [&]() -> Result<std::unique_ptr<Engine>> {
    if (auto valid = validate(options); !valid) return tl::unexpected(std::move(valid.error()));
    auto impl = std::make_unique<Impl>(options);
    if (auto started = impl->start(*factory); !started) {
      return tl::unexpected(std::move(started.error()));
    }
    impl->choice_ = impl->threads_.front()->backend_name();
    return std::unique_ptr<Engine>(new Engine(std::move(impl)));
  });
}

const EngineOptions& Engine::options() const noexcept { return impl_->options_; }
const char* Engine::backend_name() const noexcept { return impl_->threads_[0]->backend_name(); }
const std::string& Engine::choice() const noexcept { return impl_->choice_; }

Ticket Engine::read(const Request& request, Buffer buffer) {
  return Ticket(impl_->submit(Direction::kRead, request, std::move(buffer), nullptr, 2));
}

Ticket Engine::write(const Request& request, Buffer buffer) {
  return Ticket(impl_->submit(Direction::kWrite, request, std::move(buffer), nullptr, 2));
}

Completion Engine::read_and_wait(const Request& request, Buffer buffer) {
  return impl_->move_and_wait(Direction::kRead, request, std::move(buffer));
}

Completion Engine::write_and_wait(const Request& request, Buffer buffer) {
  return impl_->move_and_wait(Direction::kWrite, request, std::move(buffer));
}

void Engine::read(const Request& request, Buffer buffer, Callback callback) {
  SPILLWAY_CHECK(static_cast<bool>(callback), "the callback is empty");
  impl_->submit(Direction::kRead, request, std::move(buffer), std::move(callback), 1);
}

void Engine::write(const Request& request, Buffer buffer, Callback callback) {
  SPILLWAY_CHECK(static_cast<bool>(callback), "the callback is empty");
  impl_->submit(Direction::kWrite, request, std::move(buffer), std::move(callback), 1);
}

void Engine::submit(std::span<Submission> batch) { impl_->submit(batch); }

Ticket Engine::start(Direction direction, const Request& request, Buffer buffer,
                     Callback callback) {
  return Ticket(impl_->submit(direction, request, std::move(buffer), std::move(callback), 2));
}

Result<void> Engine::register_memory(std::span<std::byte> memory) {
  return impl_->register_memory(memory);
}

void Engine::unregister_memory(std::span<std::byte> memory) { impl_->unregister_memory(memory); }

void Engine::register_file(const File& file) {
  impl_->on_each_thread([&](EngineThread& thread) { thread.register_file(file.fd(), file.id()); });
}

void Engine::unregister_file(const File& file) {
  impl_->on_each_thread(
      [&](EngineThread& thread) { thread.unregister_file(file.fd(), file.id()); });
}

LatencyHistogram Engine::latency(Direction direction) const noexcept {
  if (!impl_->owner().is_here()) return {};
  LatencyHistogram sum = impl_->callers_moves_.latency(direction);
  for (const auto& thread : impl_->threads_) sum += thread->latency(direction);
  return sum;
}

EngineStats Engine::stats() const noexcept {
  EngineStats stats;
  impl_->callers_moves_.add_to(stats);
  for (const auto& thread : impl_->threads_) thread->add_to(stats);
  return stats;
}

}  // namespace spillway::aio
