// PlacedFile: a new file of known size whose bytes are written in any order. Internal to exporting.
//
// Its space is taken at the start (fallocate): a full disk is found out before the work. What is
// written leaves the page cache as soon as it may. All calls block; move-only.
#pragma once

#include <spillway/aio/error.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "trainer/files/write_back.h"

namespace spillway::trainer {

class PlacedFile {
 public:
  static Result<PlacedFile> create(const std::filesystem::path& path, std::uint64_t size_bytes);
  PlacedFile(PlacedFile&& other) noexcept;
  PlacedFile& operator=(PlacedFile&&) = delete;
  ~PlacedFile();

  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes);
  // All before `offset` is complete: it may go to the disk.
  void complete_until(std::uint64_t offset) { write_back_.complete_until(fd_, offset); }
  Result<void> sync_and_close();  // no more calls after it

 private:
  PlacedFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  int fd_;
  std::string path_;
  WriteBack write_back_;
};

}  // namespace spillway::trainer
