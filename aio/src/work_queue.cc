#include "work_queue.h"

#include <spillway/aio/patience.h>

#include <algorithm>
#include <utility>

namespace spillway::aio {

namespace {

Error reason(ErrorKind kind, const char* detail) {
  Error error;
  error.kind = kind;
  error.detail = detail;
  return error;
}

}  // namespace

Error engine_destroyed() { return reason(ErrorKind::kCancelled, "the engine was destroyed"); }
Error given_up() { return reason(ErrorKind::kCancelled, "given up by the caller"); }

void WorkQueue::add(Worker& worker) {
  MutexLock lock(mutex_);
  workers_.push_back(&worker);
}

std::size_t WorkQueue::push(std::span<PendingRequest* const> requests, bool may_block) {
  std::size_t pushed = 0;
  while (pushed < requests.size()) {
    Sleepers sleepers;
    {
      MutexLock lock(mutex_);
      while (may_block && active_.size() >= kMaxPending) has_room_.wait(lock);
      if (stopping_) break;  // a callback of a cancelled request submitted the next one
      do {
        add(requests[pushed++], sleepers);
      } while (pushed < requests.size() && (!may_block || active_.size() < kMaxPending));
    }
    sleepers.wake();
  }
  return pushed;
}

void WorkQueue::add(PendingRequest* request, Sleepers& sleepers) {
  request->active_index = active_.size();
  active_.push_back(request);
  waiting_.add(request);
  pick_sleepers(*request, sleepers);
  if (request->deadline >= next_deadline_) return;
  if (next_deadline_ == Engine::kNoDeadline) last_round_ = std::chrono::steady_clock::now();
  next_deadline_ = request->deadline;
  // The sleep of one of them is too long now.
  if (sleepers.count == 0) sleepers.workers[sleepers.count++] = workers_.front();
}

// Marks them as awake, so that the next push costs no system call for them.
void WorkQueue::pick_sleepers(const PendingRequest& request, Sleepers& sleepers) {
  std::uint64_t pieces = request.size_bytes / block_size_bytes_ + 1;
  const bool urgent = request.priority == Priority::kUrgent;
  for (std::size_t i = 0; i < workers_.size() && pieces > 0; ++i) {
    if (sleepers.count == sleepers.workers.size()) return;
    Worker* worker = workers_[next_worker_++ % workers_.size()];
    Worker::Sleep sleep = worker->sleep_.load(std::memory_order_relaxed);
    if (sleep == Worker::kAwake || (sleep == Worker::kForUrgent && !urgent)) continue;
    worker->sleep_.store(Worker::kAwake, std::memory_order_relaxed);
    sleepers.workers[sleepers.count++] = worker;
    --pieces;
  }
}

bool WorkQueue::cancel(PendingRequest* request) {
  MutexLock lock(mutex_);
  if (request->active_index == PendingRequest::kNotActive || request->cancelled) return false;
  request->cancelled = true;
  drop_queued_part(request, given_up());
  if (request->outstanding == 0) {
    retire(request);
    return true;
  }
  look_for_cancelled();
  return false;
}

void WorkQueue::look_for_cancelled() {
  for (Worker* worker : workers_) {
    worker->look_for_cancelled_ = true;
    worker->wake();
  }
}

void WorkQueue::expedite(PendingRequest* request) {
  MutexLock lock(mutex_);
  if (request->list == nullptr || request->priority == Priority::kUrgent) return;
  waiting_.expedite(request);
  Sleepers sleepers;
  pick_sleepers(*request, sleepers);
  sleepers.wake();
}

void WorkQueue::run_on(Worker& worker, Command& command) {
  MutexLock lock(mutex_);
  worker.commands_.push_back(&command);
  worker.wake();
  while (!command.done) command_done_.wait(lock);
}

void WorkQueue::finish(std::span<Command* const> commands) {
  if (commands.empty()) return;
  MutexLock lock(mutex_);
  for (Command* command : commands) command->done = true;
  command_done_.notify_all();
}

bool WorkQueue::begin_callers_move(std::size_t most) {
  MutexLock lock(mutex_);
  if (stopping_ || !active_.empty() || callers_moves_ >= most) return false;
  ++callers_moves_;
  return true;
}

void WorkQueue::end_callers_move() {
  MutexLock lock(mutex_);
  --callers_moves_;
}

void WorkQueue::stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
  for (Worker* worker : workers_) worker->wake();
}

void WorkQueue::exchange(Worker& worker, Round& round) {
  MutexLock lock(mutex_);
  for (Ended& ended : round.ended) record(ended, round);
  if (stopping_) end_queued(round);
  if (next_deadline_ != Engine::kNoDeadline) expire(round);
  take(worker, round);
  round.stopping = stopping_;
  round.deadline = next_deadline_;
  round.commands->swap(worker.commands_);
  round.look_for_cancelled = std::exchange(worker.look_for_cancelled_, false);
}

void WorkQueue::record(Ended& ended, Round& round) {
  PendingRequest* request = ended.request;
  --request->outstanding;
  request->memory_lost |= ended.memory_lost;
  if (ended.failure) {
    if (!request->failure || ended.failed_at < request->failed_at) {
      request->failure = std::move(ended.failure);
      request->failed_at = ended.failed_at;
    }
    drop_queued_part(request, {});
  }
  if (request->outstanding > 0 || !request->fully_cut()) return;
  if (request->expired) {
    round.drained->push_back(request);
  } else {
    retire(request);
    round.completed->push_back(request);
  }
}

// `why` is the failure of a request that has none yet.
void WorkQueue::drop_queued_part(PendingRequest* request, Error why) {
  if (request->list == nullptr) return;
  waiting_.remove(request);
  if (!request->failure) {
    request->failure = std::move(why);
    request->failed_at = request->cut_to;
  }
  request->cut_to = request->end();
}

void WorkQueue::end_queued(Round& round) {
  for (std::size_t i = active_.size(); i > 0; --i) {
    PendingRequest* request = active_[i - 1];
    drop_queued_part(request, engine_destroyed());
    if (request->outstanding > 0) continue;
    retire(request);
    round.completed->push_back(request);
  }
}

void WorkQueue::retire(PendingRequest* request) {
  active_[request->active_index] = active_.back();
  active_[request->active_index]->active_index = request->active_index;
  active_.pop_back();
  request->active_index = PendingRequest::kNotActive;
  has_room_.notify_one();
}

// Time in which none of the threads ran brings no deadline nearer.
void WorkQueue::postpone_deadlines(std::chrono::steady_clock::time_point now) {
  const auto gap = now - std::exchange(last_round_, now);
  if (gap <= Patience::kLook + Patience::kLate) return;
  next_deadline_ = Engine::kNoDeadline;
  for (PendingRequest* request : active_) {
    if (request->deadline == Engine::kNoDeadline) continue;
    request->deadline += gap;
    next_deadline_ = std::min(next_deadline_, request->deadline);
  }
}

// Completes what is late. Of what the kernel still has, the memory is awaited behind the scenes.
void WorkQueue::expire(Round& round) {
  const auto now = std::chrono::steady_clock::now();
  postpone_deadlines(now);
  if (now < next_deadline_) return;
  next_deadline_ = Engine::kNoDeadline;
  bool in_flight = false;
  for (std::size_t i = active_.size(); i > 0; --i) {
    PendingRequest* request = active_[i - 1];
    if (request->deadline > now) {
      next_deadline_ = std::min(next_deadline_, request->deadline);
      continue;
    }
    drop_queued_part(request, reason(ErrorKind::kDeadline, ""));
    request->cancelled = true;
    if (request->outstanding == 0) {
      retire(request);
      round.completed->push_back(request);
      continue;
    }
    in_flight = true;
    request->expired = true;
    request->references.fetch_add(1, std::memory_order_relaxed);
    retire(request);
    round.expired->push_back(request);
  }
  if (in_flight) look_for_cancelled();
}

// With several threads none takes more than its share of what is queued, so that a large request
// is spread over all of them.
std::size_t WorkQueue::fair_share(std::uint64_t pieces, std::size_t room) const {
  if (thread_count_ == 1) return room;
  return static_cast<std::size_t>(
      std::min<std::uint64_t>(room, (pieces + thread_count_ - 1) / thread_count_));
}

void WorkQueue::take(Worker& worker, Round& round) {
  const std::size_t urgent_most = fair_share(waiting_.urgent_pieces(block_size_bytes_), round.room);
  std::size_t urgent = 0;
  std::size_t normal = 0;
  // What may be taken of normal ones: the last kUrgentDepth places are not theirs.
  const auto normal_room = [&] {
    const std::size_t kept = Engine::kUrgentDepth + urgent;
    return round.room > kept ? round.room - kept : 0;
  };
  const std::size_t normal_most =
      fair_share(waiting_.normal_pieces(block_size_bytes_), normal_room());
  // One that waits for a bounce buffer holds up none that needs none.
  bool bounce_missing = false;
  const auto may_be_cut = [&](const PendingRequest& request) {
    if (round.bounce_room > 0 || request.fully_cut()) return true;
    const bool missing = needs_bounce(cut_piece(request, request.cut_to, block_size_bytes_));
    bounce_missing |= missing;
    return !missing;
  };
  while (true) {
    PendingRequest* request = urgent < urgent_most ? waiting_.next_urgent(may_be_cut) : nullptr;
    const bool is_urgent = request != nullptr;
    if (!is_urgent && normal < std::min(normal_most, normal_room())) {
      request = waiting_.next_normal(may_be_cut);
    }
    if (request == nullptr) break;
    if (request->fully_cut()) {  // of 0 bytes
      waiting_.remove(request);
      retire(request);
      round.completed->push_back(request);
      continue;
    }
    Piece piece = cut_piece(*request, request->cut_to, block_size_bytes_);
    if (needs_bounce(piece)) --round.bounce_room;
    waiting_.cut(request, piece.keep_bytes);
    ++request->outstanding;
    round.work->push_back({request, piece});
    ++(is_urgent ? urgent : normal);
  }
  const std::size_t room_left = round.room - urgent - normal;
  round.more_to_take = !waiting_.empty() && urgent + normal > 0 && normal < normal_room();
  Worker::Sleep sleep = Worker::kAwake;
  if (room_left > 0 && (bounce_missing || !waiting_.urgent_waits()) && !stopping_) {
    const bool takes_any = (bounce_missing || waiting_.empty()) && normal < normal_room();
    sleep = takes_any ? Worker::kForAny : Worker::kForUrgent;
  }
  worker.sleep_.store(sleep, std::memory_order_relaxed);
}

}  // namespace spillway::aio
