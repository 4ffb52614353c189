// ShardJob: the saving of one rank's states, in two parts: what training must wait for, and what
// goes on beside it. Internal to checkpoints.
//
// What lies on files is sealed, and linked where the checkpoint lies on the same filesystem; else
// it is cloned or copied in the second part. What lies in memory is copied in the first.
#pragma once

#include <spillway/swapper/sealed_tile.h>
#include "trainer/checkpoint/files.h"
#include "trainer/states/model_states.h"

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
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
  // All throw Failure and Interrupted. `files` outlives the job; one part at a time uses it.
  ShardJob(ModelStates& states, std::filesystem::path directory, CheckpointFiles& files);

  // First: seals, links, and copies what lies in memory. Afterwards the states may change again.
  void take(ModelStates& states, RankAgreement& ranks);
  // Then, on any thread: the rest, until the shard is whole and durable. Of the swap files it reads
  // a small share of what training reads there meanwhile, which it thus slows down by no more.
  void complete();
  // From another thread meanwhile: complete() reads as fast as it can, or throws Interrupted, soon.
  void hurry() noexcept { hurried_ = true; }
  void cancel() noexcept { cancelled_ = true; }

  // What the user should know of how it was saved; after take().
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  // Planes of an extent that lie in a sealed segment.
  struct SealedPart {
    std::size_t extent = 0;
    std::uint32_t first_plane = 0;  // the number of its first one among the checkpoint's
    const swapper::Layout* layout = nullptr;
    swapper::SealedTile tile;
  };
  // A part that has to be copied before its tile changes.
  struct MemoryPart {
    std::size_t extent = 0;
    std::uint32_t first_plane = 0;
  };
  struct Segment {
    std::shared_ptr<swapper::SealedSegment> sealed;
    std::optional<std::uint32_t> file;  // its number in the index, when it is linked or cloned
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
  std::map<const swapper::SealedSegment*, Segment> segments_;
  std::optional<ShardWriter> writer_;
  std::uint32_t writer_file_ = 0;
  std::vector<std::string> notes_;
  std::uint64_t read_bytes_ = 0;           // by copy()
  std::uint64_t training_read_bytes_ = 0;  // when it began
  std::atomic<bool> hurried_{false};
  std::atomic<bool> cancelled_{false};
};

}  // namespace spillway::trainer
