// SaveDirectory: a new directory that gets its name when all of it is durable.
//
// It is made beside its place as ".NAME.spillway-save". Whoever makes it holds flock on a file in
// it, so what a killed process left is recognised: it has that name, belongs to this user, nobody
// holds the lock, and it has only files that a save makes. Then, and only then, they are removed.
// All calls are relative to open directories: a chdir changes nothing. Threads: one. Calls block.
#pragma once

#include <spillway/aio/error.h>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "descriptor.h"

namespace spillway::swapper {

class SaveDirectory {
 public:
  // kBusy if something has the name, another process saves to it, or what was left of a save holds
  // foreign files; kInvalid for a path without a name.
  static Result<SaveDirectory> create(const std::filesystem::path& path);
  SaveDirectory(SaveDirectory&&) noexcept = default;
  SaveDirectory& operator=(SaveDirectory&&) = delete;
  // Removes what was made, unless `finish` succeeded.
  ~SaveDirectory();

  int fd() const noexcept { return directory_.get(); }
  std::uint64_t device() const noexcept { return device_; }
  // kNoSpace, with the arithmetic, if fewer bytes are free.
  Result<void> check_space(std::uint64_t bytes) const;
  // False if the filesystem has no hard links.
  bool has_links() const noexcept;

  // NewFile: a file in it, of a size that is allocated at once.
  class NewFile {
   public:
    Result<void> write(std::span<const std::byte> bytes, std::uint64_t offset);
    Result<void> sync();

   private:
    friend class SaveDirectory;
    NewFile(int fd, std::string path) : file_(fd), path_(std::move(path)) {}
    Descriptor file_;
    std::string path_;
  };
  Result<NewFile> create_file(const std::string& name, std::uint64_t size_bytes);

  // Syncs the directory, gives it its name, and syncs the one above. kBusy if the name was taken
  // meanwhile. The last call.
  Result<void> finish();

 private:
  explicit SaveDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  Result<bool> open();
  Result<void> lock();
  Result<bool> is_still_named() const;
  Result<void> remove_leftovers(bool remove) const;
  std::string file_path(const std::string& name) const;

  std::filesystem::path path_;
  std::string name_;
  std::string hidden_name_;
  std::uint64_t device_ = 0;
  Descriptor parent_;
  Descriptor directory_;
  Descriptor lock_;
};

}  // namespace spillway::swapper
