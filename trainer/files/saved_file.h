// SavedFile: a file of a checkpoint, opened for reading. Internal to checkpoints.
#pragma once

#include <spillway/aio/error.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

namespace spillway::trainer {

class SavedFile {
 public:
  // A regular file; not through a symbolic link, and without waiting for a pipe's other end.
  static Result<SavedFile> open(const std::filesystem::path& path);
  SavedFile(SavedFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), size_bytes_(other.size_bytes_) {}
  SavedFile& operator=(SavedFile&&) = delete;
  ~SavedFile();

  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  // All of `to`, or an error that names the path.
  Result<void> read(const std::filesystem::path& path, std::uint64_t offset,
                    std::span<std::byte> to) const;

 private:
  SavedFile() = default;

  int fd_ = -1;
  std::uint64_t size_bytes_ = 0;
};

// All of a file of at most 4 GiB.
Result<std::string> read_text(const std::filesystem::path& path);

}  // namespace spillway::trainer
