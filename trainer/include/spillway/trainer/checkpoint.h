// Checkpoint: a checkpoint on disk, opened for reading. Every byte is verified before it is used.
//
// `open` reads the manifest and the shards' indexes and checks them against each other and the
// sizes of the files. `read` moves whole blocks, compares each with its checksum and keeps a few,
// so memory is bounded whatever the files say. Files are opened inside the directory only, without
// following symbolic links. Move-only. Threads: one at a time; all calls block.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/checkpoint_manifest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

// Returns the name of the checkpoint of `step`: "step-00000042".
std::string checkpoint_name(std::uint64_t step);
// Returns the step of "step-00000042", or nothing for any other name.
std::optional<std::uint64_t> step_of_name(const std::string& name);
// Returns the steps of the complete checkpoints, ascending; none for a missing directory.
std::vector<std::uint64_t> list_checkpoints(const std::filesystem::path& directory);

// True if files of `from` can be hard links in `to`: both are on one filesystem, and it has links
// (FAT and exFAT have none).
bool can_link(const std::filesystem::path& from, const std::filesystem::path& to);

struct CheckpointPlanes;

class Checkpoint {
 public:
  // Opens a checkpoint. kNotFound, kCorrupt, kUnsupported or kInvalid, with the name of the bad
  // file.
  static Result<Checkpoint> open(const std::filesystem::path& directory);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::filesystem::path& directory() const noexcept;
  const CheckpointManifest& manifest() const noexcept;
  const CheckpointPlanes& planes() const noexcept;
  const std::vector<ShardIndex>& shards() const noexcept;
  // Returns the size of all its files.
  std::uint64_t size_bytes() const;
  // Returns the size of a parameter's planes, without padding.
  std::uint64_t parameter_bytes(std::uint32_t parameter) const;

  // The place of a run of a parameter's elements.
  struct Run {
    std::uint32_t shard = 0;
    std::uint32_t extent = 0;
    std::uint64_t offset = 0;  // elements from the start of the extent
    std::uint64_t count = 0;
  };
  // Returns the places of elements [first, first + count) of a parameter, in order.
  // REQUIRES: within the parameter.
  std::vector<Run> find(std::uint32_t parameter, std::uint64_t first, std::uint64_t count) const;
  // Reads elements [first, first + count) of an extent's plane into `to`. They start and end at
  // blocks of the plane, or at the end of the extent. kCorrupt names file, offset, parameter and
  // plane. REQUIRES: within the extent.
  Result<void> read(std::uint32_t shard, std::uint32_t extent, std::uint32_t plane,
                    std::uint64_t first, std::uint64_t count, std::byte* to);

  // Compares every byte of every file with the checksums and calls `bad` for each bad block.
  // Returns the number of bad blocks. `checked`, if given, receives the bytes checked so far.
  std::uint64_t verify(const std::function<void(const Error&)>& bad,
                       const std::function<void(std::uint64_t)>& checked = {});

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::trainer
