// Checkpoint: one that is on disk, opened for reading; every byte is verified before it is used.
//
// Opening reads the manifest and the shards' indexes and checks them against each other and the
// files' sizes. Reading moves whole blocks, compares each with its checksum and keeps a few: memory
// is bounded whatever the files say. Files are opened inside the directory only, symbolic links are
// not followed. All calls block. One thread at a time; move-only.
#pragma once

#include <spillway/aio/error.h>
#include "trainer/checkpoint/format/manifest.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

class Checkpoint {
 public:
  // kNotFound, kCorrupt, kUnsupported, kInvalid: with the name of the file that is not right.
  static Result<Checkpoint> open(const std::filesystem::path& directory);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::filesystem::path& directory() const noexcept;
  const CheckpointManifest& manifest() const noexcept;
  const CheckpointPlanes& planes() const noexcept;
  const std::vector<ShardIndex>& shards() const noexcept;
  // Of all its files.
  std::uint64_t size_bytes() const;

  // Where a run of a parameter's elements lies.
  struct Run {
    std::uint32_t shard = 0;
    std::uint32_t extent = 0;
    std::uint64_t offset = 0;  // elements from the start of the extent
    std::uint64_t count = 0;
  };
  // Elements [first, first + count) of a parameter, in order. REQUIRES: they are within it.
  std::vector<Run> find(std::uint32_t parameter, std::uint64_t first, std::uint64_t count) const;
  // Elements [first, first + count) of an extent's plane, which begin and end at blocks of the
  // plane or the extent's end. kCorrupt names file, offset, parameter and plane. REQUIRES: within
  // it.
  Result<void> read(std::uint32_t shard, std::uint32_t extent, std::uint32_t plane,
                    std::uint64_t first, std::uint64_t count, std::byte* to);

  // Compares every byte of every file with the checksums, and tells of each block that is wrong.
  // Returns how many are. `checked`, if given, is called with the bytes that were checked so far.
  std::uint64_t verify(const std::function<void(const Error&)>& bad,
                       const std::function<void(std::uint64_t)>& checked = {});

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::trainer
