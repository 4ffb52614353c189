#include <spillway/trainer/checkpoint_directory.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/optimizer_layout.h>

#include <fstream>

#include "rank_agreement.h"
#include "state_items.h"

namespace spillway::trainer {
namespace {

using std::filesystem::path;

std::string rank_name(std::uint32_t rank) {
  std::string digits = std::to_string(rank);
  if (digits.size() < 4) digits.insert(0, 4 - digits.size(), '0');
  return "rank-" + digits;
}

// The planes of the parts, in order: those of weights, then those of the optimizer.
std::vector<std::span<const std::byte>> planes_of(const swapper::Item& item,
                                                  std::span<const swapper::PartView> parts) {
  std::vector<std::span<const std::byte>> planes;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const swapper::Layout& layout = item[part].tier->layout();
    for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
      planes.emplace_back(parts[part].plane(plane),
                          layout.plane_bytes(plane, parts[part].elements()));
    }
  }
  return planes;
}

// This rank's shard: its states and then the index of them, both durable.
void write_shard(ModelStates& states, const path& directory, CheckpointFiles& files,
                 RankAgreement& ranks) {
  const std::string name = rank_name(states.communicator().rank());
  StateItems tiles = list_state_items(states, swapper::Access::kRead);
  ShardWriter writer(value_or_throw(files.create(directory / (name + ".bin"))), name + ".bin");
  const auto append = [&](std::size_t index,
                          std::span<const swapper::PartView> parts) -> Result<void> {
    if (states.stop_requested()) throw Interrupted();
    for (const std::span<const std::byte> plane : planes_of(tiles.items[index], parts)) {
      auto offset = writer.append(plane);
      if (!offset) return tl::unexpected(offset.error());
      tiles.extents[index].planes.push_back({.file = 0, .offset = *offset});
    }
    ranks.meet_after_tile();
    return {};
  };
  value_or_throw(swapper::TileStream::run(tiles.items, append));
  ShardIndex index{.rank = states.communicator().rank(), .files = {}, .extents = {}};
  index.files.push_back(value_or_throw(writer.finish()));
  index.extents = std::move(tiles.extents);
  value_or_throw(write_file(files, directory / (name + ".json"), to_text(index)));
}

// What rank 0 says of a shard: its index lies where all ranks write.
CheckpointShard describe_shard(const path& directory, std::uint32_t rank) {
  CheckpointShard shard{.index = rank_name(rank) + ".json"};
  const path file = directory / shard.index;
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  constexpr std::streamoff kTail = 64;  // the seal and a little more
  const std::streamoff size = stream ? std::streamoff(stream.tellg()) : 0;
  std::string tail(kTail, '\0');
  if (size > kTail) stream.seekg(size - kTail).read(tail.data(), kTail);
  if (!stream || size <= kTail) {
    throw Failure(make_error(ErrorKind::kNotFound, "write checkpoint", file.string(),
                             "the shard of rank " + std::to_string(rank) +
                                 " is not there: all ranks must write to one directory, on a "
                                 "filesystem that they share")
                      .value());
  }
  shard.size_bytes = static_cast<std::uint64_t>(size);
  shard.checksum = seal_of(tail);
  return shard;
}

void publish(ModelStates& states, const CheckpointFacts& facts, const path& unfinished,
             const path& finished, CheckpointFiles& files) {
  CheckpointManifest manifest;
  manifest.step = facts.step;
  manifest.seed = states.config().seed;
  manifest.samples_seen = facts.samples_seen;
  manifest.world_size = states.communicator().world_size();
  manifest.format = optimizer_format(states.config());
  manifest.model = facts.model;
  manifest.training = facts.training;
  manifest.parameters = list_parameters(states);
  for (std::uint32_t rank = 0; rank < manifest.world_size; ++rank) {
    manifest.shards.push_back(describe_shard(unfinished, rank));
  }
  value_or_throw(write_file(files, unfinished / kManifestName, to_text(manifest)));
  value_or_throw(files.sync_directory(unfinished));
  value_or_throw(files.rename(unfinished, finished));
  value_or_throw(files.sync_directory(finished.parent_path()));
}

// Of this rank.
std::uint64_t shard_bytes(ModelStates& states) {
  const CheckpointPlanes planes = checkpoint_planes(optimizer_format(states.config()));
  const StateItems tiles = list_state_items(states, swapper::Access::kRead);
  std::uint64_t bytes = 4096;
  for (std::size_t i = 0; i < tiles.items.size(); ++i) {
    const std::size_t count = tiles.items[i].size() > 1 ? planes.all.size() : planes.weight_count;
    for (std::size_t plane = 0; plane < count; ++plane) {
      bytes +=
          plane_bytes(planes.all[plane], tiles.extents[i].elements) + ShardWriter::kPlaceAlignment;
    }
    // In the index, in digits.
    bytes += 128 + 48 * count + 96 * tiles.extents[i].segments.size();
  }
  return bytes + bytes / kShardBlockBytes * 24;
}

}  // namespace

std::uint64_t checkpoint_bytes(ModelStates& states) {
  std::uint64_t bytes = 4096;
  for (const CheckpointParameter& parameter : list_parameters(states)) {
    bytes += 128 + parameter.name.size() + 24 * parameter.shape.size();
  }
  const double shards =
      states.communicator().all_reduce_sum(static_cast<double>(shard_bytes(states)));
  return bytes + static_cast<std::uint64_t>(shards);
}

void save_checkpoint(ModelStates& states, const CheckpointFacts& facts, const path& directory,
                     CheckpointFiles& files) {
  const path finished = directory / checkpoint_name(facts.step);
  const path unfinished = finished.string() + kUnfinishedSuffix;
  const bool leads = states.communicator().rank() == 0;
  const std::uint64_t bytes = checkpoint_bytes(states);
  RankAgreement ranks(states.communicator(), "write checkpoint " + finished.string());
  ranks.run([&] {
    if (!leads) return;
    remove_checkpoint(unfinished);
    value_or_throw(
        check_space(directory, bytes, "the checkpoint of step " + std::to_string(facts.step)));
    value_or_throw(files.make_directory(unfinished));
  });
  try {
    ranks.run([&] { write_shard(states, unfinished, files, ranks); });
    ranks.run([&] {
      if (leads) publish(states, facts, unfinished, finished, files);
    });
  } catch (...) {
    if (leads) remove_checkpoint(unfinished);
    throw;
  }
}

}  // namespace spillway::trainer
