#include "spillway/pinned_pool/pool.h"

#include <spillway/aio/check.h>
#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "spillway/pinned_pool/limits.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace spillway::pinned_pool {

struct Pool::State {
  State(Slab slab_in, const PoolOptions& options_in, std::size_t stride_in)
      : options(options_in), stride(stride_in), slab(std::move(slab_in)) {
    free.reserve(options.buffer_count);
    // The last one is handed out first, so that the first to go is the one at the front.
    for (std::size_t i = options.buffer_count; i-- > 0;) free.push_back(slab.data() + i * stride);
    ASAN_POISON_MEMORY_REGION(slab.data(), slab.size_bytes());
  }
  // The address range may be mapped again by somebody who knows nothing of the poison.
  ~State() { ASAN_UNPOISON_MEMORY_REGION(slab.data(), slab.size_bytes()); }

  // aio::Buffer::Release: runs on whichever thread drops the buffer.
  static void give_back(void* owner, std::byte* data, std::size_t capacity) noexcept {
    State& state = *static_cast<State*>(owner);
    if (!state.process.is_here()) return;  // the parent has the buffer
    ASAN_POISON_MEMORY_REGION(data, capacity);
    const MutexLock lock(state.mutex);
    state.free.push_back(data);  // within what was reserved: does not allocate
    // Under the lock: once it is released, and all buffers are back, the Pool may be gone.
    state.came_free.notify_one();
  }

  // REQUIRES: a free buffer.
  Lease take() SPILLWAY_REQUIRES(mutex) {
    std::byte* data = free.back();
    free.pop_back();
    ASAN_UNPOISON_MEMORY_REGION(data, stride);
    return Lease(aio::Buffer(data, stride, &give_back, this));
  }

  const aio::OwnerProcess process;
  const PoolOptions options;
  const std::size_t stride;  // bytes of one buffer
  Slab slab;
  Mutex mutex;
  CondVar came_free;
  // A stack: the buffer used last is the warmest in the caches.
  std::vector<std::byte*> free SPILLWAY_GUARDED_BY(mutex);
  State* next_lost = nullptr;
};

namespace {

std::string shape(const PoolOptions& options, std::size_t stride) {
  return std::to_string(options.buffer_count) + " x " + format_bytes(stride);
}

std::string display_name(const PoolOptions& options) {
  return (options.name.empty() ? std::string("pool") : options.name) + " buffers";
}

// Threads of `engine` whose rings must know the memory.
Result<std::uint32_t> required_registrations(const PoolOptions& options, aio::Engine* engine) {
  if (options.registration != Policy::kRequired) return 0u;
  SPILLWAY_CHECK(engine != nullptr, "registration is required, and no engine is given");
  if (engine->backend_name() != std::string_view("threads")) return engine->options().thread_count;
  return make_error(ErrorKind::kUnsupported, "register memory", "",
                    display_name(options) +
                        " must be registered with io_uring, and the engine is " + engine->choice());
}

}  // namespace

Result<std::unique_ptr<Pool>> Pool::create(const PoolOptions& options, aio::Engine* engine) {
  return or_no_memory("make a pool", [&] { return make(options, engine); });
}

Result<std::unique_ptr<Pool>> Pool::make(const PoolOptions& options, aio::Engine* engine) {
  SPILLWAY_CHECK(options.buffer_bytes > 0, "a pool of empty buffers");
  SPILLWAY_CHECK(options.buffer_count > 0, "a pool without buffers");
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kLargest = std::numeric_limits<std::size_t>::max() / 4;
  if (options.buffer_bytes > kLargest / options.buffer_count) {
    return make_error(ErrorKind::kNoMemory, "pinned memory", "",
                      display_name(options) + " " + shape(options, options.buffer_bytes) +
                          " is more than any machine can address");
  }
  const std::size_t stride = (options.buffer_bytes + kPage - 1) / kPage * kPage;
  const std::size_t total = stride * options.buffer_count;
  const auto registrations = required_registrations(options, engine);
  if (!registrations) return tl::unexpected(registrations.error());
  const PlannedMemory planned{.what = display_name(options) + " " + shape(options, stride),
                              .bytes = total,
                              .locked = options.lock == Policy::kRequired,
                              .huge_pages = options.huge_pages != Policy::kOff,
                              .registrations = *registrations};
  if (auto fits = check_plan({planned}, MemoryLimits::read()); !fits) {
    return tl::unexpected(fits.error());
  }
  auto slab = Slab::create({.size_bytes = total,
                            .huge_pages = options.huge_pages,
                            .lock = options.lock,
                            .cuda = options.cuda,
                            .numa_node = options.numa_node});
  if (!slab) return tl::unexpected(slab.error());
  if (engine != nullptr) {
    if (auto known = slab->register_with(*engine, options.registration); !known) {
      return tl::unexpected(known.error());
    }
  }
  for (const std::string& line : slab->report()) {
    options.log(aio::LogLevel::kWarning, display_name(options) + ": " + line);
  }
  return std::unique_ptr<Pool>(
      new Pool(std::make_unique<State>(std::move(*slab), options, stride)));
}

// Pools that went while Leases were out.
std::atomic<Pool::State*> Pool::g_lost{nullptr};

Pool::Pool(std::unique_ptr<State> state) : state_(std::move(state)) {}

Pool::~Pool() {
  if (!state_->process.is_here()) {
    // Buffers that the parent lent point here, and the lock may be held for ever.
    [[maybe_unused]] const State* const kept = state_.release();
    return;
  }
  {
    const MutexLock lock(state_->mutex);
    if (state_->free.size() == state_->options.buffer_count) return;
  }
  // A device may still write into a buffer that is out: its memory is never given back. The list
  // keeps it findable for leak checkers.
  State* const lost = state_.release();
  lost->options.log(aio::LogLevel::kWarning,
                    display_name(lost->options) + ": some are out when the pool goes: " +
                        format_bytes(lost->slab.size_bytes()) + " stay mapped for ever");
  lost->next_lost = g_lost.load();
  while (!g_lost.compare_exchange_weak(lost->next_lost, lost)) {
  }
}

std::size_t Pool::buffer_bytes() const noexcept { return state_->stride; }
std::size_t Pool::buffer_count() const noexcept { return state_->options.buffer_count; }
const Slab& Pool::slab() const noexcept { return state_->slab; }

std::size_t Pool::available() const noexcept {
  if (!state_->process.is_here()) return 0;
  const MutexLock lock(state_->mutex);
  return state_->free.size();
}

Result<void> Pool::can_hold(std::size_t size_bytes) const {
  if (size_bytes <= state_->stride) return {};
  return make_error(ErrorKind::kInvalid, "lease", "",
                    format_bytes(size_bytes) + " can never fit: " + display_name(state_->options) +
                        " are " + shape(state_->options, state_->stride));
}

Result<void> Pool::usable() const {
  if (state_->process.is_here()) return {};
  return tl::unexpected(state_->process.error("lease"));
}

Lease Pool::acquire() {
  if (!state_->process.is_here()) return {};
  MutexLock lock(state_->mutex);
  while (state_->free.empty()) state_->came_free.wait(lock);
  return state_->take();
}

Lease Pool::try_acquire() {
  if (!state_->process.is_here()) return {};
  const MutexLock lock(state_->mutex);
  return state_->free.empty() ? Lease() : state_->take();
}

Lease Pool::acquire_until(std::chrono::steady_clock::time_point deadline) {
  if (!state_->process.is_here()) return {};
  MutexLock lock(state_->mutex);
  const bool free = state_->came_free.wait_running_until(
      lock, deadline, [this]() SPILLWAY_REQUIRES(state_->mutex) { return !state_->free.empty(); });
  return free ? state_->take() : Lease();
}

}  // namespace spillway::pinned_pool
