// SavedFile: a file of a checkpoint, open for reading. Internal to checkpoints.
//
// All calls block. Move-only; any thread may read.
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
  // Opens a regular file. Refuses a symbolic link, and never waits for the other end of a pipe.
  static Result<SavedFile> open(const std::filesystem::path& path);
  SavedFile(SavedFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), size_bytes_(other.size_bytes_) {}
  SavedFile& operator=(SavedFile&&) = delete;
  ~SavedFile();

  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  // Fills `to` with the bytes at `offset`. An error names `path`.
  Result<void> read(const std::filesystem::path& path, std::uint64_t offset,
                    std::span<std::byte> to) const;

 private:
  SavedFile() = default;

  int fd_ = -1;
  std::uint64_t size_bytes_ = 0;
};

// Returns the contents of a file of at most 4 GiB.
Result<std::string> read_text(const std::filesystem::path& path);

}  // namespace spillway::trainer
