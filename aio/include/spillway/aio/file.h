// File: a file opened for direct I/O, with the alignment that its kernel and filesystem require.
//
// It is opened with O_DIRECT if the filesystem supports it (`direct()`), else it works through the
// page cache (`why_not_direct()`). Alignments come from statx STATX_DIOALIGN, or are 4096 if the
// kernel reports none. Move-only; any number of threads. The descriptor is closed when the File and
// every request on it are gone, so its number cannot be reused under a request. Every call blocks.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace spillway::aio {

enum class Direct {
  kAuto,      // direct if the filesystem supports it, else through the page cache
  kRequired,  // direct, or fail with kUnsupported
  kOff,       // through the page cache
};

struct CreateOptions {
  std::uint64_t size_bytes = 0;  // preallocated (fallocate), so that writes meet no ENOSPC later
  bool overwrite = false;        // false: an existing file is an error (kBusy), never truncated
  Direct direct = Direct::kAuto;
};

struct OpenOptions {
  bool writable = false;
  Direct direct = Direct::kAuto;
};

class SPILLWAY_API File {
 public:
  // Creates `path` with exactly `size_bytes`. After a failure no file is left.
  static Result<File> create(const std::filesystem::path& path, const CreateOptions& options);
  static Result<File> open(const std::filesystem::path& path, const OpenOptions& options = {});

  File(File&&) noexcept = default;
  File& operator=(File&&) noexcept = default;

  int fd() const noexcept { return open_ == nullptr ? -1 : open_->fd; }
  // Unique in the process, unlike `fd()`: the kernel reuses a descriptor's number after close.
  // REQUIRES, here and below: not moved from.
  std::uint64_t id() const noexcept { return open_->id; }
  const std::string& path() const noexcept { return open_->path; }
  bool writable() const noexcept { return open_->writable; }
  bool direct() const noexcept { return open_->direct; }
  const std::string& why_not_direct() const noexcept { return open_->why_not_direct; }
  // Multiples of these, in bytes, move without a bounce buffer. 1 when not direct.
  std::uint32_t memory_alignment() const noexcept { return open_->memory_alignment; }
  std::uint32_t offset_alignment() const noexcept { return open_->offset_alignment; }

  Result<std::uint64_t> size_bytes() const;
  // Calls fdatasync. A failure is final: afterwards the contents of the file are unknown.
  Result<void> sync();
  // Unlinks the path; the descriptor stays usable until the File is dropped.
  Result<void> remove();

 private:
  friend class Engine;
  friend struct PendingRequest;

  // Shared with the requests on it, which may outlive the File.
  struct Open {
    ~Open();
    int fd = -1;
    std::uint64_t id = 0;
    bool writable = false;
    bool direct = false;
    std::uint32_t memory_alignment = 1;
    std::uint32_t offset_alignment = 1;
    std::string path;
    std::string why_not_direct;
  };

  File() = default;
  File(std::string path, bool writable, int flags);
  File share() const noexcept {
    File file;
    file.open_ = open_;
    return file;
  }
  Result<void> make_direct(Direct policy);

  std::shared_ptr<Open> open_;
};

// Fills all of `to` with pread, from a descriptor opened in any way. kShortTransfer if the file
// ends before. `path` is for the error. Blocks.
SPILLWAY_API Result<void> read_exactly(int fd, std::uint64_t offset, std::span<std::byte> to,
                                       const std::string& path);

}  // namespace spillway::aio
