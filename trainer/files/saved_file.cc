#include "trainer/files/saved_file.h"

#include <fcntl.h>
#include <spillway/aio/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kMostTextBytes = std::uint64_t{4} << 30;

}  // namespace

SavedFile::~SavedFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<SavedFile> SavedFile::open(const std::filesystem::path& path) {
  SavedFile file;
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file.fd_ < 0) return errno_error("open", path.string(), errno);
  struct stat status {};
  if (::fstat(file.fd_, &status) != 0) return errno_error("stat", path.string(), errno);
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorKind::kInvalid, "open", path.string(), "it is no regular file");
  }
  file.size_bytes_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

Result<void> SavedFile::read(const std::filesystem::path& path, std::uint64_t offset,
                             std::span<std::byte> to) const {
  return aio::read_exactly(fd_, offset, to, path.string());
}

Result<std::string> read_text(const std::filesystem::path& path) {
  auto file = SavedFile::open(path);
  if (!file) return tl::unexpected(file.error());
  if (file->size_bytes() > kMostTextBytes) {
    return make_error(ErrorKind::kInvalid, "read checkpoint", path.string(), "it is far too large");
  }
  std::string text(file->size_bytes(), '\0');
  auto read = file->read(path, 0, std::as_writable_bytes(std::span(text.data(), text.size())));
  if (!read) return tl::unexpected(read.error());
  return text;
}

}  // namespace spillway::trainer
