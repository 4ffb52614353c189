#include "work_queue.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace spillway::aio {

Error engine_destroyed() {
  Error error;
  error.kind = ErrorKind::kCancelled;
  error.detail = "the engine was destroyed";
  return error;
}

void WorkQueue::add(Worker& worker) {
  std::lock_guard lock(mutex_);
  workers_.push_back(&worker);
}

bool WorkQueue::push(PendingRequest* request, bool may_block) {
  std::array<Worker*, 64> sleepers;  // EngineOptions::thread_count is at most that
  std::size_t count = 0;
  {
    std::unique_lock lock(mutex_);
    if (may_block) has_room_.wait(lock, [&] { return active_.size() < kMaxPending; });
    if (stopping_) return false;  // a callback of a cancelled request submitted the next one
    request->active_index = active_.size();
    active_.push_back(request);
    request->next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = request;
    last_ = request;
    queued_bytes_ += request->size_bytes;
    count = pick_sleepers(request->size_bytes / block_size_bytes_ + 1, sleepers);
  }
  for (std::size_t i = 0; i < count; ++i) sleepers[i]->wake();
  return true;
}

// Marks them as awake, so that the next push costs no system call for them.
std::size_t WorkQueue::pick_sleepers(std::uint64_t pieces, std::span<Worker*> out) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < workers_.size() && count < pieces && count < out.size(); ++i) {
    Worker* worker = workers_[next_worker_++ % workers_.size()];
    if (worker->asleep_.exchange(false, std::memory_order_relaxed)) out[count++] = worker;
  }
  return count;
}

void WorkQueue::run_on(Worker& worker, Command& command) {
  std::unique_lock lock(mutex_);
  worker.commands_.push_back(&command);
  worker.wake();
  command_done_.wait(lock, [&] { return command.done; });
}

void WorkQueue::finish(std::span<Command* const> commands) {
  if (commands.empty()) return;
  std::lock_guard lock(mutex_);
  for (Command* command : commands) command->done = true;
  command_done_.notify_all();
}

void WorkQueue::stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  for (Worker* worker : workers_) worker->wake();
}

void WorkQueue::exchange(Worker& worker, Round& round) {
  std::lock_guard lock(mutex_);
  for (Ended& ended : round.ended) record(ended, *round.completed);
  while (stopping_ && first_ != nullptr) {
    PendingRequest* request = first_;
    if (!request->failure) {
      request->failure = engine_destroyed();
      request->failed_at = request->cut_to;
    }
    drop_queued_part(request);
    if (request->outstanding == 0) retire(request, *round.completed);
  }
  std::size_t taken = take(round);
  round.stopping = stopping_;
  round.commands->swap(worker.commands_);
  round.more_to_take = first_ != nullptr && taken > 0 && taken < round.room;
  bool sleeps = first_ == nullptr && taken < round.room && !stopping_;
  worker.asleep_.store(sleeps, std::memory_order_relaxed);
}

void WorkQueue::record(Ended& ended, std::vector<PendingRequest*>& completed) {
  PendingRequest* request = ended.request;
  --request->outstanding;
  request->memory_lost |= ended.memory_lost;
  if (ended.padded_end != 0) {
    request->padded_end = ended.padded_end;
    request->exact_end = ended.exact_end;
  }
  if (ended.failure) {
    if (!request->failure || ended.failed_at < request->failed_at) {
      request->failure = std::move(ended.failure);
      request->failed_at = ended.failed_at;
    }
    drop_queued_part(request);
  }
  if (request->outstanding == 0 && request->fully_cut()) retire(request, completed);
}

// Requests are cut in order, so one that is cut in part is the first.
void WorkQueue::drop_queued_part(PendingRequest* request) {
  if (request != first_) return;
  queued_bytes_ -= request->end() - request->cut_to;
  request->cut_to = request->end();
  first_ = request->next;
}

void WorkQueue::retire(PendingRequest* request, std::vector<PendingRequest*>& completed) {
  active_[request->active_index] = active_.back();
  active_[request->active_index]->active_index = request->active_index;
  active_.pop_back();
  if (request->padded_end != 0) cut_back(*request);
  has_room_.notify_one();
  completed.push_back(request);
}

// Runs under the lock, so no write can be handed out between the look and the cut. A write on its
// way to a place behind ours keeps its bytes: the file stays as long as it is, and that write
// covers the padding.
void WorkQueue::cut_back(PendingRequest& request) {
  for (const PendingRequest* other : active_) {
    if (other->direction == Direction::kWrite && other->file->id() == request.file->id() &&
        other->end() > request.exact_end) {
      return;
    }
  }
  struct stat status {};
  int fd = request.file->fd();
  bool ok = ::fstat(fd, &status) == 0;
  if (ok && static_cast<std::uint64_t>(status.st_size) == request.padded_end) {
    ok = ::ftruncate(fd, static_cast<off_t>(request.exact_end)) == 0;
  }
  if (ok || request.failure) return;
  request.failure.emplace();
  request.failure->kind = kind_of_errno(errno);
  request.failure->errno_value = errno;
  request.failure->detail = "cutting the padding of the last block off";
  request.failed_at = request.end();
}

// With several threads none takes more than its share of what is queued, so that a large request
// is spread over all of them.
std::size_t WorkQueue::fair_share(std::size_t room) const {
  if (thread_count_ == 1) return room;
  std::uint64_t pieces = queued_bytes_ / block_size_bytes_ + 1;
  return static_cast<std::size_t>(
      std::min<std::uint64_t>(room, (pieces + thread_count_ - 1) / thread_count_));
}

std::size_t WorkQueue::take(Round& round) {
  const std::size_t most = fair_share(round.room);
  std::size_t taken = 0;
  while (first_ != nullptr) {
    PendingRequest* request = first_;
    while (!request->fully_cut() && taken < most) {
      Piece piece = cut_piece(*request, request->cut_to, block_size_bytes_);
      if (piece.route != Route::kDirect) {
        if (round.bounce_room == 0) return taken;
        --round.bounce_room;
      }
      request->cut_to += piece.keep_bytes;
      queued_bytes_ -= piece.keep_bytes;
      ++request->outstanding;
      round.work->push_back({request, piece});
      ++taken;
    }
    if (!request->fully_cut()) break;
    first_ = request->next;
    if (request->outstanding == 0) retire(request, *round.completed);  // of 0 bytes
  }
  return taken;
}

}  // namespace spillway::aio
