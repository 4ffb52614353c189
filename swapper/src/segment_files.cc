#include "segment_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <spillway/aio/check.h>
#include <spillway/aio/signals.h>
#include <spillway/pinned_pool/limits.h>
#include <cerrno>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace spillway::swapper {

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
  for (const std::uint32_t number : segments) {
    Segment& segment = segments_[number];
    auto opened = make(segment.file);
    if (!opened) return tl::unexpected(std::move(opened.error()));
    engine_.register_file(*opened);
    segment.open.emplace(std::move(*opened));
    segment.path = segment.open->path();  // after it: where the heap ends, the file is removed
    if (!segment.file.sparse) take(segment, std::int64_t(segment.file.size_bytes));
  }
  return {};
}

Result<aio::File> SegmentFiles::make(const File& file) {
  auto opened = aio::File::create(file.lock->directory() / file.name,
                                  {.size_bytes = file.sparse ? 0 : file.size_bytes,
                                   .direct = direct_,
                                   .permissions = 0600});  // others need not read the states
  if (!opened || !file.sparse) return opened;
  const aio::FileSizeLimit limit;
  if (::ftruncate(opened->fd(), static_cast<off_t>(file.size_bytes)) == 0) return opened;
  auto failed = errno_error("ftruncate", opened->path(), errno);
  (void)opened->remove();
  return failed;
}

void SegmentFiles::take(Segment& segment, std::int64_t bytes) noexcept {
  segment.taken_bytes += static_cast<std::uint64_t>(bytes);
  moved_[segment.file.directory].stored_bytes += static_cast<std::uint64_t>(bytes);
}

void SegmentFiles::Segment::clear() noexcept {
  file = {};
  path.clear();
  listed = false;
  open.reset();
  is_sealed = false;
  sealed.reset();
}

Result<std::vector<std::uint32_t>> SegmentFiles::open_saved(std::span<const SavedFile> files) {
  std::vector<std::uint32_t> numbers;
  for (const SavedFile& file : files) {
    struct stat status {};
    if (::lstat(file.path.c_str(), &status) != 0) return errno_error("open", file.path, errno);
    if (!S_ISREG(status.st_mode)) {
      return make_error(ErrorKind::kInvalid, "open", file.path, "no regular file");
    }
    auto opened = aio::File::open(file.path, {.writable = false, .direct = direct_});
    if (!opened) return tl::unexpected(std::move(opened.error()));
    const auto size_bytes = opened->size_bytes();
    if (!size_bytes) return tl::unexpected(size_bytes.error());
    if (*size_bytes != file.size_bytes) {
      return make_error(ErrorKind::kCorrupt, "open", file.path,
                        "has " + std::to_string(*size_bytes) + " bytes, was saved with " +
                            std::to_string(file.size_bytes));
    }
    numbers.push_back(static_cast<std::uint32_t>(segments_.size()));
    Segment& segment = segments_.emplace_back();
    segment.file.size_bytes = file.size_bytes;
    segment.path = file.path;
    segment.is_sealed = true;
    engine_.register_file(*opened);
    segment.open.emplace(std::move(*opened));
    take(segment, std::int64_t(file.size_bytes));
  }
  return numbers;
}

Result<void> SegmentFiles::seal(std::span<const std::uint32_t> segments) {
  std::vector<aio::File> reading;
  for (const std::uint32_t segment : segments) {
    auto opened = segments_[segment].open->reopen({.writable = false, .direct = direct_});
    if (!opened) return tl::unexpected(std::move(opened.error()));
    reading.push_back(std::move(*opened));
  }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    Segment& segment = segments_[segments[i]];
    engine_.unregister_file(*segment.open);
    segment.is_sealed = true;
    segment.sealed =
        std::make_shared<SealedSegment>(std::move(*segment.open), segment.file.size_bytes);
    segment.open.emplace(std::move(reading[i]));
    engine_.register_file(*segment.open);
  }
  return {};
}

bool SegmentFiles::punch(const Region& region) noexcept {
  Segment& segment = segments_[region.segment];
  if (::fallocate(segment.open->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(region.offset), static_cast<off_t>(region.size_bytes)) != 0) {
    return false;
  }
  take(segment, -std::int64_t(region.size_bytes));
  return true;
}

Result<void> SegmentFiles::refill(const Region& region) {
  Segment& segment = segments_[region.segment];
  const int fd = segment.open->fd();
  int error = 0;
  {
    const aio::FileSizeLimit limit;
    do {
      error = ::fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(region.offset),
                          static_cast<off_t>(region.size_bytes)) == 0
                  ? 0
                  : errno;
    } while (error == EINTR);
  }
  if (error == 0 || error == EOPNOTSUPP) {
    take(segment, std::int64_t(region.size_bytes));
    return {};
  }
  struct statvfs filesystem {};
  std::string detail = pinned_pool::format_bytes(region.size_bytes) + " are needed";
  if (::fstatvfs(fd, &filesystem) == 0) {
    const std::uint64_t free = std::uint64_t{filesystem.f_bavail} * filesystem.f_frsize;
    detail += ", " + pinned_pool::format_bytes(free) + " are free";
  }
  auto failed = errno_error("allocate", segment.path, error, detail);
  failed.value().offset = region.offset;
  return failed;
}

void SegmentFiles::drop(std::uint32_t number) noexcept {
  Segment& segment = segments_[number];
  SPILLWAY_CHECK(segment.is_sealed, "only a sealed segment is dropped");
  if (!segment.open) return;
  unlink(std::span(&number, 1));
  engine_.unregister_file(*segment.open);
  segment.open.reset();
  segment.sealed.reset();
  take(segment, -std::int64_t(segment.taken_bytes));
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
  for (const std::uint32_t number : segments) {
    Segment& segment = segments_[number];
    if (segment.open) engine_.unregister_file(*segment.open);
    take(segment, -std::int64_t(segment.taken_bytes));
    segment.clear();
    free_.push_back(number);
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
  SPILLWAY_CHECK(!owner_.is_here() || in_flight_ == 0, "files are closed after their last request");
}

void SegmentFiles::unlink(std::span<const std::uint32_t> segments) noexcept {
  std::map<DirectoryLock*, std::vector<std::string>> names;
  for (const std::uint32_t number : segments) {
    Segment& segment = segments_[number];
    // Without a list of ours the name may be another store's.
    if (!segment.listed) continue;
    // A file that cannot be removed stays on the list, for the lock or the next job to try again.
    if (segment.open && !segment.open->remove()) continue;
    segment.listed = false;
    names[segment.file.lock.get()].push_back(segment.file.name);
  }
  for (auto& [lock, list] : names) lock->removed(list);
}

void SegmentFiles::close() {
  if (!owner_.is_here()) return;  // the files and the transfers are the parent's
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
  SPILLWAY_CHECK(direction == aio::Direction::kRead || !segments_[region.segment].is_sealed,
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
  for (const Moved& moved : moved_) bytes += moved.stored_bytes.load(std::memory_order_relaxed);
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
  return moved_[directory].stored_bytes.load(std::memory_order_relaxed);
}

}  // namespace spillway::swapper
