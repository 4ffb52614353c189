// File: a file opened for direct I/O, with the alignment its kernel and filesystem ask for.
//
// Opened with O_DIRECT where the filesystem has it (`direct()` tells; where it has not, the file
// works through the page cache and `why_not_direct()` says why). Alignments come from statx
// STATX_DIOALIGN, or are 4096 where the kernel does not say. A File is move-only and may be used
// by several threads. Its descriptor is closed when it and every request on it are gone: the
// number cannot come back for another file while a request is on its way. Every call here blocks.
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
  kAuto,      // direct when the filesystem can, else through the page cache
  kRequired,  // fail with kUnsupported when it cannot
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
  // Creates `path` of exactly `size_bytes`. On failure nothing is left behind.
  static Result<File> create(const std::filesystem::path& path, const CreateOptions& options);
  static Result<File> open(const std::filesystem::path& path, const OpenOptions& options = {});

  File(File&&) noexcept = default;
  File& operator=(File&&) noexcept = default;

  int fd() const noexcept { return open_ == nullptr ? -1 : open_->fd; }
  // Never used twice in a process, unlike fd(): a descriptor's number comes back after close.
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
  // fdatasync. A failure is final: the caller must treat the file's contents as unknown.
  Result<void> sync();
  // Unlinks the path; the descriptor stays usable until dropped.
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

// pread of all of `to` from a descriptor, however opened; kShortTransfer when the file ends before.
// `path` is for the error. Blocks.
SPILLWAY_API Result<void> read_exactly(int fd, std::uint64_t offset, std::span<std::byte> to,
                                       const std::string& path);

}  // namespace spillway::aio
