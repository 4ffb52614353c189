#include "engine_thread.h"

#include <spillway/aio/check.h>
#include <spillway/aio/signals.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <system_error>

#include "thread_affinity.h"

namespace spillway::aio {
namespace {

// Of one operation without progress. EAGAIN means that the kernel lacks memory for the moment, so
// there is a pause between the tries: some 30 ms in all.
constexpr std::uint32_t kMaxRetries = 64;
constexpr auto kLongestPause = std::chrono::microseconds(500);

void add(std::atomic<std::uint64_t>& counter, std::uint64_t n) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

}  // namespace

EngineThread::EngineThread(WorkQueue& queue, const EngineOptions& options, const RequestPool* pool,
                           std::uint32_t index)
    : queue_(queue),
      options_(options),
      pool_(pool),
      index_(index),
      bounce_(options.queue_depth + Engine::kUrgentDepth),
      slots_(options.queue_depth + Engine::kUrgentDepth),
      events_(slots_.size()) {
  for (std::size_t i = slots_.size(); i > 0; --i) {
    free_slots_.push_back(static_cast<std::uint32_t>(i - 1));
  }
  ready_.reserve(slots_.size());
  ended_.reserve(slots_.size());
  work_.reserve(slots_.size());
  for (auto* requests : {&completed_, &expired_, &drained_}) requests->reserve(kMaxPending);
}

EngineThread::~EngineThread() { join(); }

void EngineThread::join() {
  if (thread_.joinable()) thread_.join();
}

Result<void> EngineThread::start(BackendFactory& factory) {
  if (auto mapped = bounce_.map(); !mapped) return mapped;
  std::promise<Result<void>> ready;
  std::future<Result<void>> result = ready.get_future();
  try {
    thread_ = thread_without_signals([this, &factory, &ready] {
      // Made here: a ring belongs to the thread that made it (SINGLE_ISSUER), and its memory to the
      // node where that ran.
      Result<void> made = or_no_memory("make a backend", [&]() -> Result<void> {
        auto backend = run_this_thread_on(options_.cpus).and_then([&] {
          return factory.make(static_cast<std::uint32_t>(slots_.size()));
        });
        if (!backend) return tl::unexpected(std::move(backend.error()));
        backend_ = std::move(*backend);
        queue_.add(*this);
        return {};
      });
      const bool runs = made.has_value();
      ready.set_value(std::move(made));
      if (runs) run();
    });
  } catch (const std::system_error& error) {
    return errno_error("start an engine thread", "", error.code().value());
  }
  return result.get();
}

void EngineThread::run() {
  using std::chrono::steady_clock;
  set_engine_thread(pool_);
  while (round()) {
    const bool looked = submit_ready();
    steady_clock::time_point until = request_deadline_;
    if (until != Engine::kNoDeadline) {
      until = std::min(until, steady_clock::now() + Patience::kLook);
    }
    if (draining_) until = std::min(until, drain_patience_.next_look());
    // A wake that came meanwhile is spent: the queue may have more.
    if (looked || more_to_take_ || !ended_.empty()) {
      take_events(std::chrono::nanoseconds::zero());
    } else if (until == Engine::kNoDeadline) {
      take_events(Backend::kForever);
    } else {
      take_events(until - steady_clock::now());
    }
    if (draining_ && drain_patience_.is_over()) give_up_in_flight();
  }
}

// Trades with the queue and completes requests. False when all is drained.
bool EngineThread::round() {
  for (auto* requests : {&completed_, &expired_, &drained_}) requests->clear();
  work_.clear();
  commands_.clear();
  WorkQueue::Round round{.ended = ended_,
                         .room = free_slots_.size(),
                         .bounce_room = bounce_.available(),
                         .work = &work_,
                         .completed = &completed_,
                         .expired = &expired_,
                         .drained = &drained_,
                         .commands = &commands_};
  queue_.exchange(*this, round);
  ended_.clear();
  more_to_take_ = round.more_to_take;
  request_deadline_ = round.deadline;
  for (Command* command : commands_) command->run();
  queue_.finish(commands_);
  for (const Work& work : work_) begin(work);
  for (PendingRequest* request : completed_) complete(request);
  for (PendingRequest* request : expired_) complete_expired(request);
  for (PendingRequest* request : drained_) end_expired(request);
  if (round.look_for_cancelled) cancel_in_flight();
  if (round.stopping && !draining_) begin_draining();
  return !draining_ || in_flight_ > 0 || !ended_.empty();
}

void EngineThread::begin(const Work& work) {
  Slot& slot = slots_[free_slots_.back()];
  free_slots_.pop_back();
  std::uint32_t generation = slot.generation + 1;
  slot = Slot{};
  slot.work = work;
  slot.generation = generation;
  slot.in_use = true;
  slot.memory = work.piece.data;
  if (needs_bounce(work.piece)) slot.memory = bounce_.take();
  if (needs_bounce(work.piece) && !is_read(slot)) {
    std::memcpy(slot.memory, work.piece.data, work.piece.keep_bytes);
  }
  enqueue(slot);
}

// What is not done yet, from a whole block on; or the write-back of all of it.
void EngineThread::enqueue(Slot& slot) {
  const File& file = slot.work.request->file;
  const Piece& piece = slot.work.piece;
  const bool write_back = slot.stage == Stage::kWriteBack;
  const bool page_cache = piece.route == Route::kPageCache;
  const std::uint32_t from = write_back ? 0 : start_of(slot);
  auto index = static_cast<std::uint64_t>(&slot - slots_.data());
  bool registered = !page_cache && !registered_files_.empty() &&
                    std::find(registered_files_.begin(), registered_files_.end(),
                              std::pair(file.fd(), file.id())) != registered_files_.end();
  ready_.push_back({.direction = direction_of(slot),
                    .fd = page_cache ? slot.work.request->page_cache_fd : file.fd(),
                    .data = slot.memory + from,
                    .size_bytes = piece.size_bytes - from,
                    .offset = piece.offset + from,
                    .user_data = std::uint64_t{slot.generation} << 32 | index,
                    .registered_file = registered,
                    .write_back = write_back});
}

// True if it has taken events, and with them perhaps a wake.
bool EngineThread::submit_ready() {
  bool looked = false;
  while (!ready_.empty()) {
    std::size_t most = options_.single_submit ? 1 : ready_.size();
    std::size_t taken = backend_->submit(std::span(ready_).first(most));
    const auto now =
        measures() ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
    for (std::size_t i = 0; i < taken; ++i) {
      Slot& slot = slots_[ready_[i].user_data & 0xffffffff];
      slot.in_flight = true;
      slot.submitted = now;
      if (ready_[i].write_back) continue;
      add(ready_[i].direction == Direction::kRead ? counters_.read_operations
                                                  : counters_.write_operations,
          1);
    }
    in_flight_ += static_cast<std::uint32_t>(taken);
    ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(taken));
    if (taken < most || !options_.single_submit) break;
    take_events(std::chrono::nanoseconds::zero());  // this is what starts it
    looked = true;
  }
  return looked;
}

void EngineThread::take_events(std::chrono::nanoseconds timeout) {
  std::size_t n = backend_->reap(events_, std::max(timeout, timeout.zero()));
  WorkQueue::awake(*this);
  counters_.system_calls.store(backend_->system_calls(), std::memory_order_relaxed);
  for (std::size_t i = 0; i < n; ++i) judge(events_[i]);
}

void EngineThread::judge(const Event& event) {
  std::uint64_t index = event.user_data & 0xffffffff;
  SPILLWAY_CHECK(index < slots_.size(), "the backend completed what was never submitted");
  Slot& slot = slots_[index];
  if (!slot.in_flight || slot.generation != event.user_data >> 32) return;  // reported twice
  slot.in_flight = false;
  --in_flight_;
  if (measures() && slot.stage == Stage::kMove) measure(slot, event.result);
  if (event.result < 0) return judge_failure(slot, -event.result);
  if (slot.stage == Stage::kWriteBack) return moved(slot);
  auto moved_bytes = static_cast<std::uint32_t>(event.result);
  const std::uint32_t left = slot.work.piece.size_bytes - start_of(slot);
  SPILLWAY_CHECK(moved_bytes <= left, "the backend moved more than asked");
  if (moved_bytes < left) return judge_short(slot, moved_bytes);
  if (slot.work.piece.route == Route::kPageCache) return write_back(slot);
  moved(slot);
}

void EngineThread::measure(const Slot& slot, std::int32_t result) {
  const auto now = std::chrono::steady_clock::now();
  if (options_.measure_latency) {
    (is_read(slot) ? read_latency_ : write_latency_).add(now - slot.submitted);
  }
  if (options_.observer.ended == nullptr) return;
  options_.observer.ended(options_.observer.context,
                          {.direction = direction_of(slot),
                           .offset = slot.work.piece.offset + start_of(slot),
                           .size_bytes = static_cast<std::uint32_t>(std::max(result, 0)),
                           .engine_thread = index_,
                           .submitted = slot.submitted,
                           .ended = now});
}

void EngineThread::judge_failure(Slot& slot, int errno_value) {
  bool passing = errno_value == EINTR || errno_value == EAGAIN;
  if (given_up_on(slot) && (passing || errno_value == ECANCELED)) return cancel(slot);
  if (!passing || ++slot.retries > kMaxRetries) {
    std::string detail = slot.stage == Stage::kWriteBack ? "writing the page back" : "";
    if (passing) detail += "tried " + std::to_string(kMaxRetries) + " times";
    return fail(slot, kind_of_errno(errno_value), errno_value, std::move(detail));
  }
  add(counters_.retries, 1);
  if (errno_value == EAGAIN) {
    std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(
        slot.retries * std::chrono::microseconds(10), kLongestPause));
  }
  enqueue(slot);
}

// A short read is either the end of the file, which fstat decides, or goes on from where it
// stopped, which need not be a whole number of blocks. A read of 0 bytes may have met the end
// just before another write moved it, so it too is tried again.
void EngineThread::judge_short(Slot& slot, std::uint32_t moved_bytes) {
  const PendingRequest& request = *slot.work.request;
  const Piece& piece = slot.work.piece;
  const std::uint32_t before = start_of(slot);
  add(counters_.short_transfers, 1);
  if (given_up_on(slot)) {
    slot.done_bytes = before + moved_bytes;
    return cancel(slot);
  }
  slot.done_bytes = before + moved_bytes;
  bool progress = start_of(slot) > before;
  if (piece.route == Route::kEdge && slot.done_bytes >= piece.skip_bytes + piece.keep_bytes) {
    return moved(slot);
  }
  if (is_read(slot)) {
    Result<std::uint64_t> size = request.file.size_bytes();
    if (!size) return fail(slot, size.error().kind, size.error().errno_value, "");
    if (piece.offset + slot.done_bytes >= *size) {
      return fail(slot, ErrorKind::kShortTransfer, 0, "the file ends at " + std::to_string(*size));
    }
  }
  if (moved_bytes == 0 && !is_read(slot)) {
    return fail(slot, ErrorKind::kShortTransfer, 0, "the device took 0 bytes");
  }
  slot.retries = progress ? 0 : slot.retries + 1;
  if (slot.retries > kMaxRetries) {
    return fail(slot, ErrorKind::kShortTransfer, 0,
                "no whole block was moved in " + std::to_string(kMaxRetries) + " tries");
  }
  enqueue(slot);
}

// A page that is dirty while others read or write around it with direct I/O would be lost or stale.
void EngineThread::write_back(Slot& slot) {
  slot.done_bytes = slot.work.piece.size_bytes;
  slot.stage = Stage::kWriteBack;
  slot.retries = 0;
  enqueue(slot);
}

void EngineThread::moved(Slot& slot) {
  const Piece& piece = slot.work.piece;
  if (needs_bounce(piece) && is_read(slot)) {
    std::memcpy(piece.data, slot.memory + piece.skip_bytes, piece.keep_bytes);
  }
  add(is_read(slot) ? counters_.read_bytes : counters_.written_bytes, piece.keep_bytes);
  ended_.push_back({.request = slot.work.request});
  end(slot);
}

void EngineThread::fail(Slot& slot, ErrorKind kind, int errno_value, std::string detail) {
  const Piece& piece = slot.work.piece;
  // Bytes of an edge block that are not the request's do not count.
  const bool bounced = needs_bounce(piece);
  std::uint64_t moved = slot.stage == Stage::kWriteBack ? 0 : slot.done_bytes;
  // Into a bounce buffer that the device may still write, nothing has moved for good.
  if (bounced && slot.in_flight) moved = 0;
  moved = std::clamp<std::uint64_t>(moved, piece.skip_bytes, piece.skip_bytes + piece.keep_bytes);
  if (bounced && is_read(slot)) {
    std::memcpy(piece.data, slot.memory + piece.skip_bytes, moved - piece.skip_bytes);
  }
  Ended ended{.request = slot.work.request, .failed_at = piece.offset + moved};
  ended.failure.emplace();
  ended.failure->kind = kind;
  ended.failure->errno_value = errno_value;
  ended.failure->detail = std::move(detail);
  ended.memory_lost = slot.in_flight && !bounced;
  ended_.push_back(std::move(ended));
  end(slot);
}

void EngineThread::end(Slot& slot) {
  if (needs_bounce(slot.work.piece) && !slot.in_flight) bounce_.put(slot.memory);
  slot.in_use = false;
  free_slots_.push_back(static_cast<std::uint32_t>(&slot - slots_.data()));
}

void EngineThread::cancel(Slot& slot) {
  fail(slot, ErrorKind::kCancelled, 0, (draining_ ? engine_destroyed() : given_up()).detail);
}

void EngineThread::cancel_in_flight() {
  for (const Slot& slot : slots_) {
    if (!slot.in_flight || !slot.work.request->cancelled) continue;
    backend_->cancel(std::uint64_t{slot.generation} << 32 |
                     static_cast<std::uint64_t>(&slot - slots_.data()));
  }
  std::erase_if(ready_, [this](const Operation& operation) {
    Slot& slot = slots_[operation.user_data & 0xffffffff];
    if (!slot.work.request->cancelled) return false;
    cancel(slot);
    return true;
  });
}

void EngineThread::begin_draining() {
  draining_ = true;
  drain_patience_ = Patience(Patience::after(options_.drain_timeout));
  for (const Operation& operation : ready_) {
    cancel(slots_[operation.user_data & 0xffffffff]);
  }
  ready_.clear();
  backend_->cancel_all();
}

// The kernel has not let go in time: whatever memory it may still use is never given back.
void EngineThread::give_up_in_flight() {
  options_.log(LogLevel::kWarning, std::to_string(in_flight_) +
                                       " operations did not end within the drain timeout: "
                                       "their memory is never given back");
  for (Slot& slot : slots_) {
    if (!slot.in_use || !slot.in_flight) continue;
    if (needs_bounce(slot.work.piece)) bounce_.leak();
    fail(slot, ErrorKind::kCancelled, 0,
         "the device did not let go of the memory in time; it is never given back");
  }
  in_flight_ = 0;
}

void EngineThread::register_file(int fd, std::uint64_t id) {
  // A file that was closed without being unregistered may have left its descriptor's number here.
  auto same_fd = [fd](const auto& entry) { return entry.first == fd; };
  if (std::erase_if(registered_files_, same_fd) > 0) backend_->unregister_file(fd);
  backend_->register_file(fd);
  registered_files_.emplace_back(fd, id);
}

void EngineThread::unregister_file(int fd, std::uint64_t id) {
  if (std::erase(registered_files_, std::pair(fd, id)) > 0) backend_->unregister_file(fd);
}

void EngineThread::add_to(EngineStats& stats) const noexcept {
  auto get = [](const std::atomic<std::uint64_t>& n) { return n.load(std::memory_order_relaxed); };
  stats.read_bytes += get(counters_.read_bytes);
  stats.written_bytes += get(counters_.written_bytes);
  stats.read_operations += get(counters_.read_operations);
  stats.write_operations += get(counters_.write_operations);
  stats.short_transfers += get(counters_.short_transfers);
  stats.retries += get(counters_.retries);
  stats.system_calls += get(counters_.system_calls);
}

}  // namespace spillway::aio
