#include "trainer/checkpoint/files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <spillway/aio/signals.h>
#include <spillway/trainer/checkpoint.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "trainer/files/checksum.h"
#include "trainer/files/write_back.h"

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kExfatMagic = 0x2011bab0;  // in linux/magic.h since 5.7 only

class PlainFile final : public NewFile {
 public:
  PlainFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PlainFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  Result<void> write(std::span<const std::byte> bytes) override {
    const aio::FileSizeLimit limit;
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return failed("write", written == 0 ? EIO : errno, bytes.size());
      size_bytes_ += static_cast<std::uint64_t>(written);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    write_back_.complete_until(fd_, size_bytes_);
    return {};
  }
  Result<void> sync() override {
    // Never repeated: after a failure the kernel may call lost pages clean.
    if (::fdatasync(fd_) != 0) return failed("fdatasync", errno, 0);
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
    return {};
  }
  Result<void> close() override {
    if (::close(std::exchange(fd_, -1)) != 0) return failed("close", errno, 0);
    return {};
  }

 private:
  tl::unexpected<Error> failed(const char* operation, int error, std::uint64_t wanted) const {
    auto unexpected = errno_error(operation, path_, error);
    unexpected.value().offset = size_bytes_;
    unexpected.value().wanted = wanted;
    return unexpected;
  }

  int fd_;
  std::string path_;
  std::uint64_t size_bytes_ = 0;
  WriteBack write_back_;
};

class PlainFiles final : public CheckpointFiles {
 public:
  Result<void> make_directory(const std::filesystem::path& path) override {
    if (::mkdir(path.c_str(), 0777) == 0) return {};
    return errno_error("create directory", path.string(), errno);
  }
  Result<std::unique_ptr<NewFile>> create(const std::filesystem::path& path) override {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return errno_error("create", path.string(), errno);
    return std::make_unique<PlainFile>(fd, path.string());
  }
  Result<void> rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno != EINVAL) return errno_error("rename", to.string(), errno);
    // A filesystem without RENAME_NOREPLACE. A directory replaces no other that has something in
    // it.
    if (::rename(from.c_str(), to.c_str()) == 0) return {};
    return errno_error("rename", to.string(), errno);
  }
  Result<void> link(const swapper::SealedSegment& segment,
                    const std::filesystem::path& to) override {
    if (auto linked = segment.link(AT_FDCWD, to); !linked) {
      return cannot("link", to, linked.error().errno_value);
    }
    // A swap file is its owner's alone; what is linked is readable by whom the directory lets in.
    struct stat directory {};
    if (::stat(to.parent_path().c_str(), &directory) != 0 ||
        ::chmod(to.c_str(), directory.st_mode & 0666) != 0) {
      return errno_error("set the permissions", to.string(), errno);
    }
    return {};
  }
  Result<void> clone(const swapper::SealedSegment& segment,
                     const std::filesystem::path& to) override {
    const int fd = ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return errno_error("create", to.string(), errno);
    int error = ::ioctl(fd, FICLONE, segment.fd()) == 0 ? 0 : errno;
    const bool cloned = error == 0;
    if (cloned && ::fdatasync(fd) != 0) error = errno;
    if (::close(fd) != 0 && error == 0) error = errno;
    if (error == 0) return {};
    ::unlink(to.c_str());
    if (cloned) return errno_error("fdatasync", to.string(), error);
    return cannot("clone", to, error);
  }
  Result<void> sync(swapper::SealedSegment& segment) override { return segment.sync(); }
  Result<void> sync_directory(const std::filesystem::path& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno_error("open", path.string(), errno);
    const int error = ::fsync(fd) == 0 ? 0 : errno;
    ::close(fd);
    if (error == 0) return {};
    return errno_error("fsync", path.string(), error);
  }

 private:
  // What the kernel says of filesystems that have no links or clones, or not between the two.
  static tl::unexpected<Error> cannot(const char* what, const std::filesystem::path& to,
                                      int error) {
    constexpr std::array kNotHere{EXDEV, EPERM, EMLINK, EOPNOTSUPP, ENOSYS, EINVAL, ENOTTY};
    auto failed = errno_error(what, to.string(), error);
    if (std::ranges::find(kNotHere, error) != kNotHere.end()) {
      failed.value().kind = ErrorKind::kUnsupported;
    }
    return failed;
  }
};

bool is_ours(const std::string& name) {
  return name == kManifestName ||
         (name.starts_with("rank-") && (name.ends_with(".bin") || name.ends_with(".json")));
}

}  // namespace

bool filesystem_has_links(std::uint64_t magic) {
  return magic != MSDOS_SUPER_MAGIC && magic != kExfatMagic;
}

bool can_link(const std::filesystem::path& from, const std::filesystem::path& to) {
  struct stat one {
  }, other{};
  struct statfs filesystem {};
  return ::stat(from.c_str(), &one) == 0 && ::stat(to.c_str(), &other) == 0 &&
         one.st_dev == other.st_dev && ::statfs(to.c_str(), &filesystem) == 0 &&
         filesystem_has_links(static_cast<std::uint64_t>(filesystem.f_type));
}

std::unique_ptr<CheckpointFiles> make_checkpoint_files() { return std::make_unique<PlainFiles>(); }

ShardWriter::ShardWriter(std::unique_ptr<NewFile> file, std::string name)
    : file_(std::move(file)), entry_{std::move(name), 0, {}} {
  block_.reserve(kShardBlockBytes);
}

Result<std::uint64_t> ShardWriter::append(std::span<const std::byte> bytes) {
  static constexpr std::array<std::byte, kPlaceAlignment> kZeros{};
  const std::uint64_t over = entry_.size_bytes % kPlaceAlignment;
  if (over != 0) {
    if (auto put_zeros = put(std::span(kZeros).first(kPlaceAlignment - over)); !put_zeros) {
      return tl::unexpected(put_zeros.error());
    }
  }
  const std::uint64_t offset = entry_.size_bytes;
  if (auto put_bytes = put(bytes); !put_bytes) return tl::unexpected(put_bytes.error());
  return offset;
}

Result<void> ShardWriter::put(std::span<const std::byte> bytes) {
  entry_.size_bytes += bytes.size();
  while (!bytes.empty()) {
    const std::size_t count = std::min<std::size_t>(bytes.size(), kShardBlockBytes - block_.size());
    block_.insert(block_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    bytes = bytes.subspan(count);
    if (block_.size() < kShardBlockBytes) continue;
    if (auto flushed = flush(); !flushed) return flushed;
  }
  return {};
}

Result<void> ShardWriter::flush() {
  entry_.checksums.push_back(checksum_of(block_));
  auto written = file_->write(block_);
  block_.clear();
  return written;
}

Result<ShardFile> ShardWriter::finish() {
  Result<void> done;
  if (!block_.empty()) done = flush();
  if (done) done = file_->sync();
  if (done) done = file_->close();
  if (!done) return tl::unexpected(done.error());
  return std::move(entry_);
}

Result<void> write_file(CheckpointFiles& files, const std::filesystem::path& path,
                        std::string_view text) {
  auto file = files.create(path);
  if (!file) return tl::unexpected(file.error());
  auto done = (*file)->write(std::as_bytes(std::span(text.data(), text.size())));
  if (done) done = (*file)->sync();
  if (done) done = (*file)->close();
  return done;
}

bool remove_checkpoint(const std::filesystem::path& directory) {
  std::error_code ignored;
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    if (is_ours(entry.path().filename().string())) found.push_back(entry.path());
  }
  for (const std::filesystem::path& path : found) std::filesystem::remove(path, ignored);
  return std::filesystem::remove(directory, ignored);
}

}  // namespace spillway::trainer
