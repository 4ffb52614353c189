// PlacedFile: a new file of known size, written in any order. Internal to exporting.
//
// create() allocates all its space (fallocate), so a full disk is an error before the work starts.
// Written bytes leave the page cache early (see write_back.h). All calls block; move-only.
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
  // Starts to write back the bytes before `offset`. REQUIRES: they are final.
  void complete_until(std::uint64_t offset) { write_back_.complete_until(fd_, offset); }
  // Makes the file durable. REQUIRES: the last call.
  Result<void> sync_and_close();

 private:
  PlacedFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  int fd_;
  std::string path_;
  WriteBack write_back_;
};

}  // namespace spillway::trainer
