#include "segment_files.h"

#include <spillway/aio/check.h>
#include <algorithm>
#include <map>
#include <utility>

namespace spillway::swapper {

bool SegmentFiles::Pending::done() const noexcept {
  const std::lock_guard guard(mutex_);
  return completion_.has_value();
}

std::optional<std::chrono::steady_clock::time_point> SegmentFiles::Pending::ended() const noexcept {
  const std::lock_guard guard(mutex_);
  return ended_;
}

void SegmentFiles::Pending::expedite() noexcept {
  if (ticket_.valid()) ticket_.expedite();
}

std::optional<aio::Completion> SegmentFiles::Pending::wait_until(
    std::chrono::steady_clock::time_point deadline) {
  std::unique_lock guard(mutex_);
  changed_.wait_until(guard, deadline, [&] { return completion_.has_value(); });
  return std::exchange(completion_, std::nullopt);
}

void SegmentFiles::Pending::complete(aio::Completion completion) {
  const std::lock_guard guard(mutex_);
  completion_ = std::move(completion);
  ended_ = std::chrono::steady_clock::now();
  changed_.notify_all();
}

SegmentFiles::SegmentFiles(aio::Engine& engine, std::vector<File> files)
    : engine_(engine), files_(std::move(files)) {
  std::size_t directories = 0;
  for (const File& file : files_) directories = std::max(directories, file.directory + 1);
  moved_ = std::vector<Moved>(directories);
}

Result<std::shared_ptr<SegmentFiles>> SegmentFiles::create(aio::Engine& engine,
                                                           std::vector<File> files,
                                                           aio::Direct direct) {
  const std::shared_ptr<SegmentFiles> segments(new SegmentFiles(engine, std::move(files)));
  // Made or not, close() takes the names off the list and unlinks what is there.
  auto made = segments->make_files(direct);
  if (made) return segments;
  segments->close();
  return tl::unexpected(std::move(made.error()));
}

Result<void> SegmentFiles::make_files(aio::Direct direct) {
  std::map<DirectoryLock*, std::vector<std::string>> names;  // one synced list a directory
  for (const File& file : files_) names[file.lock.get()].push_back(file.name);
  for (auto& [lock, list] : names) {
    if (auto listed = lock->will_create(list); !listed) return listed;
    listed_with_.insert(lock);
  }
  open_.reserve(files_.size());
  for (const File& file : files_) {
    auto opened = aio::File::create(file.lock->directory() / file.name,
                                    {.size_bytes = file.size_bytes, .direct = direct});
    if (!opened) return tl::unexpected(std::move(opened.error()));
    open_.push_back(std::move(*opened));
    engine_.register_file(open_.back());
  }
  return {};
}

std::vector<std::string> SegmentFiles::not_direct() const {
  std::vector<std::string> lines;
  std::set<std::size_t> told;
  for (std::size_t i = 0; i < open_.size(); ++i) {
    if (open_[i].direct() || !told.insert(files_[i].directory).second) continue;
    lines.push_back(open_[i].path() + ": through the page cache: " + open_[i].why_not_direct());
  }
  return lines;
}

SegmentFiles::~SegmentFiles() {
  SPILLWAY_CHECK(in_flight_ == 0, "files are closed after their last request");
}

void SegmentFiles::unlink() noexcept {
  std::map<DirectoryLock*, std::vector<std::string>> names;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    DirectoryLock* const lock = files_[i].lock.get();
    // Without a list of ours the name may be another store's.
    if (!listed_with_.contains(lock)) continue;
    // A file that cannot be removed stays on the list, for the lock or the next job to try again.
    if (i < open_.size() && !open_[i].remove()) continue;
    names[lock].push_back(files_[i].name);
  }
  for (auto& [lock, list] : names) lock->removed(list);
}

void SegmentFiles::close() {
  unlink();
  std::unique_lock guard(mutex_);
  const auto patience = overrun_ ? std::chrono::seconds(0) : Transfer::kDefaultTimeout;
  if (idle_.wait_for(guard, patience, [&] { return in_flight_ == 0; })) {
    // Before they are closed: the engine knows files by their descriptor, and numbers are reused.
    for (const aio::File& file : open_) engine_.unregister_file(file);
  } else {
    until_idle_ = shared_from_this();
  }
  for (File& file : files_) file.lock.reset();
}

std::shared_ptr<SegmentFiles::Pending> SegmentFiles::start(aio::Direction direction,
                                                           const Region& region, aio::Buffer buffer,
                                                           aio::Priority priority) {
  auto pending = std::make_shared<Pending>();
  {
    const std::lock_guard guard(mutex_);
    ++in_flight_;
  }
  auto on_completion = [this, pending, direction, region](aio::Completion completion) mutable {
    count(direction, region, completion);
    pending->complete(std::move(completion));
    // If nobody waits any more the memory is given back here, before close() says that all is done.
    pending.reset();
    one_less_in_flight();
  };
  const aio::Engine::Request request{.file = &open_[region.segment],
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
  Moved& moved = moved_[files_[region.segment].directory];
  (direction == aio::Direction::kRead ? moved.read_bytes : moved.written_bytes)
      .fetch_add(bytes, std::memory_order_relaxed);
}

void SegmentFiles::one_less_in_flight() {
  std::shared_ptr<SegmentFiles> last;  // dropped behind the guard, this object perhaps with it
  const std::lock_guard guard(mutex_);
  if (--in_flight_ > 0) return;
  idle_.notify_all();
  last = std::move(until_idle_);
}

std::uint64_t SegmentFiles::storage_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const File& file : files_) bytes += file.size_bytes;
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
  if (directory >= moved_.size()) return {};  // none of the files lies there
  const Moved& moved = moved_[directory];
  return {moved.read_bytes.load(std::memory_order_relaxed),
          moved.written_bytes.load(std::memory_order_relaxed)};
}

std::uint64_t SegmentFiles::storage_bytes(std::size_t directory) const noexcept {
  std::uint64_t bytes = 0;
  for (const File& file : files_) bytes += file.directory == directory ? file.size_bytes : 0;
  return bytes;
}

}  // namespace spillway::swapper
