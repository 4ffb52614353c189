// File: a file opened for direct I/O, with the alignment that its kernel and filesystem require.
//
// It is opened with O_DIRECT if the filesystem supports it (`direct()`), else it works through the
// page cache (`why_not_direct()`). Direct I/O moves whole pages, even where the device has smaller
// blocks; the first write that covers a page in part opens a second descriptor for the page cache.
// Move-only; any number of threads. The descriptors are closed when the File and every request on
// it are gone, so their numbers cannot be reused under a request. Every call blocks.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <spillway/aio/mutex.h>
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
  // True: replaces a regular file. The old one stays until the new one has its room; it keeps its
  // permissions. False: what is there is an error (kBusy).
  bool overwrite = false;
  Direct direct = Direct::kAuto;
  std::uint32_t permissions = 0666;  // of a new file, less the process's umask
};

struct OpenOptions {
  bool writable = false;
  Direct direct = Direct::kAuto;
};

class SPILLWAY_API File {
 public:
  // Creates `path` with exactly `size_bytes`. Never follows a symbolic link at `path`. After a
  // failure no new file is left. Errors: kBusy; kInvalid (something to be overwritten that is no
  // regular file; a size above 2^63 - 1); kNoSpace; kUnsupported (Direct::kRequired); what the
  // filesystem answers.
  static Result<File> create(const std::filesystem::path& path, const CreateOptions& options);
  // Opens a regular file or a block device; anything else is kInvalid.
  static Result<File> open(const std::filesystem::path& path, const OpenOptions& options = {});
  // Opens the same file again, by its descriptor: wherever its name points by now.
  Result<File> reopen(const OpenOptions& options) const;

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
  // Multiples of these, in bytes, move without a bounce buffer and without the page cache. When
  // direct, `offset_alignment` is at least a page; memory may be aligned to less (statx
  // STATX_DIOALIGN; 4096 if the kernel reports none). 1 when not direct.
  std::uint32_t memory_alignment() const noexcept { return open_->memory_alignment; }
  std::uint32_t offset_alignment() const noexcept { return open_->offset_alignment; }

  Result<std::uint64_t> size_bytes() const;
  // Calls fdatasync. A failure is final: afterwards the contents of the file are unknown.
  Result<void> sync();
  // Unlinks the path, from the root as it was when the file was opened; the descriptor stays usable
  // until the File is dropped.
  Result<void> remove();

 private:
  friend class Engine;
  friend struct PendingRequest;

  // Shared with the requests on it, which may outlive the File.
  struct Open {
    ~Open();
    // Returns a descriptor of the same file without O_DIRECT, opened at the first call.
    Result<int> page_cache();

    int fd = -1;
    Mutex mutex;
    int page_cache_fd SPILLWAY_GUARDED_BY(mutex) = -1;
    std::uint64_t id = 0;
    bool writable = false;
    bool direct = false;
    std::uint32_t memory_alignment = 1;
    std::uint32_t offset_alignment = 1;
    std::string path;       // as it was given
    std::string from_root;  // valid after a change of the working directory
    std::string why_not_direct;
  };

  File() = default;
  File(const std::string& open_at, std::string path, bool writable, int flags,
       std::uint32_t permissions = 0);
  File share() const noexcept {
    File file;
    file.open_ = open_;
    return file;
  }
  static Result<File> open_at(const std::string& open_at, std::string path,
                              const OpenOptions& options);
  Result<void> make_direct(Direct policy);

  std::shared_ptr<Open> open_;
};

// Returns the path from the root as of now, which a later chdir() does not change; the path itself
// if the working directory is gone.
SPILLWAY_API std::filesystem::path path_from_root(const std::filesystem::path& path);

// Fills all of `to` with pread, from a descriptor opened in any way. kShortTransfer if the file
// ends before. `path` is for the error. Blocks.
SPILLWAY_API Result<void> read_exactly(int fd, std::uint64_t offset, std::span<std::byte> to,
                                       const std::string& path);

}  // namespace spillway::aio
