// ShardJob: saves one rank's states, in two parts: training waits for the first, the second runs
// beside it. Internal to checkpoints.
//
// The first part seals tiles on files, links them if the checkpoint is on the same filesystem, and
// copies tiles in memory. The second clones or copies the tiles that were not linked. Threads: one
// at a time per part; `hurry` and `cancel` from any. Ownership: `files` outlives it.
#pragma once

#include <spillway/swapper/sealed_tile.h>
#include "trainer/checkpoint/files.h"
#include "trainer/states/model_states.h"

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trainer/checkpoint/state_items.h"
#include "trainer/ranks/rank_agreement.h"

namespace spillway::trainer {

std::string rank_name(std::uint32_t rank);  // "rank-0003"

class ShardJob {
 public:
  // All throw Failure and Interrupted.
  ShardJob(ModelStates& states, std::filesystem::path directory, CheckpointFiles& files);

  // Runs the first part. Afterwards the states may change again.
  void take(ModelStates& states, RankAgreement& ranks);
  // Runs the second part, on any thread, until the shard is whole and durable. It reads only a
  // small share of the bytes that training reads meanwhile, so it slows training by no more.
  void complete();
  // Make `complete`, on another thread, read as fast as it can, or throw Interrupted, soon.
  void hurry() noexcept { hurried_ = true; }
  void cancel() noexcept { cancelled_ = true; }

  // Returns lines for the user about the way it was saved, after `take`.
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  // Planes of an extent in a sealed segment.
  struct SealedPart {
    std::size_t extent = 0;
    std::uint32_t first_plane = 0;  // its number among the checkpoint's planes
    const swapper::Layout* layout = nullptr;
    swapper::SealedTile tile;
    std::size_t segment = 0;  // its number in segments_
  };
  // A part to copy before its tile changes.
  struct MemoryPart {
    std::size_t extent = 0;
    std::uint32_t first_plane = 0;
  };
  struct Segment {
    std::shared_ptr<swapper::SealedSegment> sealed;
    std::optional<std::uint32_t> file;  // its number in the index, if it is linked or cloned
  };

  void seal(ModelStates& states);
  void sort_parts(ModelStates& states, std::vector<swapper::Item>* items);
  void link_segments();
  void copy_memory(ModelStates& states, const std::vector<swapper::Item>& items,
                   RankAgreement& ranks);
  void clone(Segment& segment);
  void refer(const SealedPart& part, std::uint32_t file);
  void copy(const SealedPart& part);
  void read(const swapper::SealedSegment& segment, std::uint64_t offset, std::span<std::byte> to);
  void leave_room_for_training() const;
  std::uint32_t add_file(ShardFile file);
  std::string next_name();
  ShardWriter& writer();

  const std::filesystem::path directory_;
  const std::string name_;
  CheckpointFiles& files_;
  const StateTiers& tiers_;
  const swapper::Layout weight_layout_;
  const swapper::Layout optimizer_layout_;
  ShardIndex index_;
  std::vector<SealedPart> sealed_;
  std::vector<MemoryPart> in_memory_;
  std::vector<Segment> segments_;  // in the order of their first tiles
  std::optional<ShardWriter> writer_;
  std::uint32_t writer_file_ = 0;
  std::vector<std::string> notes_;
  std::uint64_t read_bytes_ = 0;           // by `copy`
  std::uint64_t training_read_bytes_ = 0;  // at its start
  std::atomic<bool> hurried_{false};
  std::atomic<bool> cancelled_{false};
};

}  // namespace spillway::trainer
