#include "segment_files.h"

#include <fcntl.h>

#include <spillway/aio/check.h>
#include <spillway/aio/signals.h>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace spillway::swapper {

bool SegmentFiles::Pending::done() const noexcept {
  const MutexLock guard(mutex_);
  return completion_.has_value();
}

std::optional<std::chrono::steady_clock::time_point> SegmentFiles::Pending::ended() const noexcept {
  const MutexLock guard(mutex_);
  return ended_;
}

void SegmentFiles::Pending::expedite() noexcept {
  if (ticket_.valid()) ticket_.expedite();
}

void SegmentFiles::Pending::cancel() noexcept {
  if (ticket_.valid()) ticket_.cancel();
}

void SegmentFiles::Pending::when_done(std::function<void()> function) {
  {
    const MutexLock guard(mutex_);
    if (!ended_) {
      when_done_ = std::move(function);
      return;
    }
  }
  function();
}

std::optional<aio::Completion> SegmentFiles::Pending::wait_until(
    std::chrono::steady_clock::time_point deadline) {
  MutexLock guard(mutex_);
  changed_.wait_running_until(guard, deadline,
                              [&]() SPILLWAY_REQUIRES(mutex_) { return completion_.has_value(); });
  return std::exchange(completion_, std::nullopt);
}

void SegmentFiles::Pending::complete(aio::Completion completion) {
  std::function<void()> when_done;
  {
    const MutexLock guard(mutex_);
    completion_ = std::move(completion);
    ended_ = std::chrono::steady_clock::now();
    changed_.notify_all();
    when_done = std::exchange(when_done_, nullptr);
  }
  if (when_done) when_done();
}

SegmentFiles::SegmentFiles(aio::Engine& engine, std::size_t directories, aio::Direct direct)
    : engine_(engine), direct_(direct), moved_(directories) {}

Result<std::vector<std::uint32_t>> SegmentFiles::add(std::vector<File> files) {
  std::vector<std::uint32_t> numbers;
  for (File& file : files) {
    SPILLWAY_CHECK(file.directory < moved_.size(), "a file lies in one of the directories");
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(segments_.size()));
      segments_.emplace_back();
    }
    numbers.push_back(free_.back());
    free_.pop_back();
    segments_[numbers.back()].file = std::move(file);
  }
  // Made or not, remove() takes the names off the list and unlinks what is there.
  auto made = make(numbers);
  if (made) return numbers;
  remove(numbers);
  return tl::unexpected(std::move(made.error()));
}

Result<void> SegmentFiles::make(std::span<const std::uint32_t> segments) {
  std::map<DirectoryLock*, std::vector<std::string>> names;  // one synced list a directory
  for (const std::uint32_t segment : segments) {
    const File& file = segments_[segment].file;
    names[file.lock.get()].push_back(file.name);
  }
  for (auto& [lock, list] : names) {
    if (auto listed = lock->will_create(list); !listed) return listed;
    for (const std::uint32_t segment : segments) {
      if (segments_[segment].file.lock.get() == lock) segments_[segment].listed = true;
    }
  }
  for (const std::uint32_t segment : segments) {
    const File& file = segments_[segment].file;
    auto opened = aio::File::create(file.lock->directory() / file.name,
                                    {.size_bytes = file.size_bytes,
                                     .direct = direct_,
                                     .permissions = 0600});  // others need not read the states
    if (!opened) return tl::unexpected(std::move(opened.error()));
    engine_.register_file(*opened);
    segments_[segment].open.emplace(std::move(*opened));
  }
  return {};
}

Result<void> SegmentFiles::seal(std::span<const std::uint32_t> segments) {
  std::vector<aio::File> reading;
  for (const std::uint32_t segment : segments) {
    auto opened = aio::File::open(path(segment), {.writable = false, .direct = direct_});
    if (!opened) return tl::unexpected(std::move(opened.error()));
    reading.push_back(std::move(*opened));
  }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    Segment& segment = segments_[segments[i]];
    engine_.unregister_file(*segment.open);
    segment.sealed =
        std::make_shared<SealedSegment>(std::move(*segment.open), segment.file.size_bytes);
    segment.open.emplace(std::move(reading[i]));
    engine_.register_file(*segment.open);
  }
  return {};
}

void SegmentFiles::punch(const Region& region) noexcept {
  // Only its room is at stake: where it cannot be given back the file stays as large as it is.
  [[maybe_unused]] const int ignored =
      ::fallocate(segments_[region.segment].open->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(region.offset), static_cast<off_t>(region.size_bytes));
}

void SegmentFiles::refill(const Region& region) noexcept {
  // Where it fails, the write that needs the room will tell.
  const aio::FileSizeLimit limit;
  [[maybe_unused]] const int ignored =
      ::fallocate(segments_[region.segment].open->fd(), FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(region.offset), static_cast<off_t>(region.size_bytes));
}

Result<void> SegmentFiles::wait_until_idle() {
  MutexLock guard(mutex_);
  if (is_idle_in_time(guard)) return {};
  return make_error(ErrorKind::kDeadline, "wait for abandoned transfers", "",
                    std::to_string(in_flight_) + " are not complete in the time allowed");
}

bool SegmentFiles::is_idle_in_time(MutexLock& guard) {
  const auto patience = overrun_ ? std::chrono::seconds(0) : Transfer::kDefaultTimeout;
  return idle_.wait_running_until(guard, aio::Patience::after(patience),
                                  [&]() SPILLWAY_REQUIRES(mutex_) { return in_flight_ == 0; });
}

void SegmentFiles::remove(std::span<const std::uint32_t> segments) noexcept {
  unlink(segments);
  for (const std::uint32_t segment : segments) {
    if (segments_[segment].open) engine_.unregister_file(*segments_[segment].open);
    segments_[segment] = {};
    free_.push_back(segment);
  }
}

std::vector<std::uint32_t> SegmentFiles::all() const {
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i].file.lock != nullptr) numbers.push_back(i);
  }
  return numbers;
}

std::vector<std::string> SegmentFiles::not_direct() const {
  std::vector<std::string> lines;
  std::set<std::size_t> reported;
  for (const Segment& segment : segments_) {
    if (!segment.open || segment.open->direct()) continue;
    if (!reported.insert(segment.file.directory).second) continue;
    lines.push_back(segment.open->path() +
                    ": through the page cache: " + segment.open->why_not_direct());
  }
  return lines;
}

SegmentFiles::~SegmentFiles() {
  SPILLWAY_CHECK(in_flight_ == 0, "files are closed after their last request");
}

void SegmentFiles::unlink(std::span<const std::uint32_t> segments) noexcept {
  std::map<DirectoryLock*, std::vector<std::string>> names;
  for (const std::uint32_t number : segments) {
    Segment& segment = segments_[number];
    // Without a list of ours the name may be another store's.
    if (!segment.listed) continue;
    // A file that cannot be removed stays on the list, for the lock or the next job to try again.
    if (segment.open && !segment.open->remove()) continue;
    names[segment.file.lock.get()].push_back(segment.file.name);
  }
  for (auto& [lock, list] : names) lock->removed(list);
}

void SegmentFiles::close() {
  unlink(all());
  MutexLock guard(mutex_);
  if (is_idle_in_time(guard)) {
    // Before they are closed: the engine knows files by their descriptor, and numbers are reused.
    for (const Segment& segment : segments_) {
      if (segment.open) engine_.unregister_file(*segment.open);
    }
  } else {
    until_idle_ = shared_from_this();
  }
  for (Segment& segment : segments_) segment.file.lock.reset();
}

std::shared_ptr<SegmentFiles::Pending> SegmentFiles::start(aio::Direction direction,
                                                           const Region& region, aio::Buffer buffer,
                                                           aio::Priority priority) {
  SPILLWAY_CHECK(direction == aio::Direction::kRead || segments_[region.segment].sealed == nullptr,
                 "a sealed segment is never written again");
  auto pending = std::make_shared<Pending>();
  {
    const MutexLock guard(mutex_);
    ++in_flight_;
  }
  auto on_completion = [this, pending, direction, region](aio::Completion completion) mutable {
    count(direction, region, completion);
    pending->complete(std::move(completion));
    // If nobody waits any more the memory is given back here, before close() says that all is done.
    pending.reset();
    one_less_in_flight();
  };
  const aio::Engine::Request request{.file = &*segments_[region.segment].open,
                                     .offset = region.offset,
                                     .size_bytes = region.size_bytes,
                                     .priority = priority};
  if (direction == aio::Direction::kRead) {
    pending->ticket_ =
        engine_.start(direction, request, std::move(buffer), std::move(on_completion));
  } else {
    engine_.write(request, std::move(buffer), std::move(on_completion));
  }
  return pending;
}

void SegmentFiles::count(aio::Direction direction, const Region& region,
                         const aio::Completion& completion) {
  const std::uint64_t bytes =
      completion.transferred ? region.size_bytes : completion.transferred.error().got;
  Moved& moved = moved_[segments_[region.segment].file.directory];
  (direction == aio::Direction::kRead ? moved.read_bytes : moved.written_bytes)
      .fetch_add(bytes, std::memory_order_relaxed);
}

void SegmentFiles::one_less_in_flight() {
  std::shared_ptr<SegmentFiles> last;  // dropped behind the guard, this object perhaps with it
  const MutexLock guard(mutex_);
  if (--in_flight_ > 0) return;
  idle_.notify_all();
  last = std::move(until_idle_);
}

std::uint64_t SegmentFiles::storage_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const Segment& segment : segments_) bytes += segment.file.size_bytes;
  return bytes;
}

TierStats SegmentFiles::stats() const noexcept {
  TierStats sum;
  for (std::size_t directory = 0; directory < moved_.size(); ++directory) {
    const TierStats part = stats(directory);
    sum.read_bytes += part.read_bytes;
    sum.written_bytes += part.written_bytes;
  }
  return sum;
}

TierStats SegmentFiles::stats(std::size_t directory) const noexcept {
  const Moved& moved = moved_[directory];
  return {moved.read_bytes.load(std::memory_order_relaxed),
          moved.written_bytes.load(std::memory_order_relaxed)};
}

std::uint64_t SegmentFiles::storage_bytes(std::size_t directory) const noexcept {
  std::uint64_t bytes = 0;
  for (const Segment& segment : segments_) {
    bytes += segment.file.directory == directory ? segment.file.size_bytes : 0;
  }
  return bytes;
}

}  // namespace spillway::swapper
