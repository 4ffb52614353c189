// File: a file opened for direct I/O, with the alignment its kernel and filesystem ask for.
//
// Opened with O_DIRECT where the filesystem has it (`direct()` tells; where it has not, the file
// works through the page cache and `why_not_direct()` says why). Alignments come from statx
// STATX_DIOALIGN, or are 4096 where the kernel does not say. A File is move-only, closes its
// descriptor when dropped, and may be used by several threads. Every call here blocks.
#pragma once

#include <spillway/aio/error.h>
#include <cstdint>
#include <filesystem>
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

class File {
 public:
  // Creates `path` of exactly `size_bytes`. On failure nothing is left behind.
  static Result<File> create(const std::filesystem::path& path, const CreateOptions& options);
  static Result<File> open(const std::filesystem::path& path, const OpenOptions& options = {});

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  int fd() const noexcept { return fd_; }
  // Never used twice in a process, unlike fd(): a descriptor's number comes back after close.
  std::uint64_t id() const noexcept { return id_; }
  const std::string& path() const noexcept { return path_; }
  bool writable() const noexcept { return writable_; }
  bool direct() const noexcept { return direct_; }
  const std::string& why_not_direct() const noexcept { return why_not_direct_; }
  // Multiples of these, in bytes, move without a bounce buffer. 1 when not direct.
  std::uint32_t memory_alignment() const noexcept { return memory_alignment_; }
  std::uint32_t offset_alignment() const noexcept { return offset_alignment_; }

  Result<std::uint64_t> size_bytes() const;
  // fdatasync. A failure is final: the caller must treat the file's contents as unknown.
  Result<void> sync();
  // Unlinks the path; the descriptor stays usable until dropped.
  Result<void> remove();

 private:
  File() = default;
  Result<void> make_direct(Direct wish);

  int fd_ = -1;
  std::uint64_t id_ = 0;
  bool writable_ = false;
  bool direct_ = false;
  std::uint32_t memory_alignment_ = 1;
  std::uint32_t offset_alignment_ = 1;
  std::string path_;
  std::string why_not_direct_;
};

}  // namespace spillway::aio
