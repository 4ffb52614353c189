#include "atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace spillway::aio_bench {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as the kernel follows

// Where the last symbolic link points to, whether or not anything is there.
fs::path target_of(const fs::path& path) {
  fs::path target = fs::absolute(path);
  std::error_code failure;
  for (int i = 0; i < kMostLinks && fs::is_symlink(target, failure); ++i) {
    target = target.parent_path() / fs::read_symlink(target, failure);
  }
  return target;
}

// A new file beside the target; gone with this object unless it was renamed.
class FileBeside {
 public:
  explicit FileBeside(const fs::path& target)
      : name_((target.parent_path() / ("." + target.filename().string() + ".XXXXXX")).string()) {
    fd_ = mkostemp(name_.data(), O_CLOEXEC);
  }
  ~FileBeside() {
    if (fd_ < 0) return;
    close(fd_);
    if (!renamed_) unlink(name_.c_str());
  }
  FileBeside(const FileBeside&) = delete;
  FileBeside& operator=(const FileBeside&) = delete;

  bool valid() const { return fd_ >= 0; }
  // errno, 0 when all is well; so the others.
  int take_over_rights(const fs::path& target) const {
    struct stat status {};
    if (stat(target.c_str(), &status) != 0) {
      const mode_t mask = umask(0);
      umask(mask);
      return fchmod(fd_, 0666 & ~mask) == 0 ? 0 : errno;
    }
    // Only root may give a file away; the mode comes last, since chown clears parts of it.
    if (fchown(fd_, status.st_uid, status.st_gid) != 0 && errno != EPERM) return errno;
    return fchmod(fd_, status.st_mode & 07777) == 0 ? 0 : errno;
  }
  int write_all(const std::string& text) const {
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t n = write(fd_, text.data() + done, text.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      done += static_cast<std::size_t>(n);
    }
    return fsync(fd_) == 0 ? 0 : errno;
  }
  int rename_to(const fs::path& target) {
    if (rename(name_.c_str(), target.c_str()) != 0) return errno;
    renamed_ = true;
    // So that the new name is on the disk too. Some filesystems cannot, and need not.
    const int folder = open(target.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return 0;
    fsync(folder);
    close(folder);
    return 0;
  }

 private:
  std::string name_;
  int fd_ = -1;
  bool renamed_ = false;
};

}  // namespace

Result<void> can_replace(const fs::path& path) {
  const fs::path target = target_of(path);
  std::error_code failure;
  const auto status = fs::status(target, failure);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    return make_error(ErrorKind::kInvalid, "write", path.string(), "it is no regular file");
  }
  if (access(target.parent_path().c_str(), W_OK) != 0) {
    return errno_error("write", path.string(), errno);
  }
  return {};
}

Result<void> replace_file(const fs::path& path, const std::string& text) {
  if (auto possible = can_replace(path); !possible) return possible;
  const fs::path target = target_of(path);
  FileBeside file(target);
  if (!file.valid()) return errno_error("write", path.string(), errno);
  int failure = file.take_over_rights(target);
  if (failure == 0) failure = file.write_all(text);
  if (failure == 0) failure = file.rename_to(target);
  if (failure != 0) return errno_error("write", path.string(), failure);
  return {};
}

}  // namespace spillway::aio_bench
