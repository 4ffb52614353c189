#include <spillway/aio/check.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include "trainer/kernels/block_quantisation.h"
#include "trainer/plan/checkpoint_planes.h"
#include "trainer/plan/optimizer_layout.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "trainer/checkpoint/state_items.h"
#include "trainer/ranks/rank_agreement.h"
#include "trainer/states/model_states.h"

namespace spillway::trainer {
namespace {

// A run of the checkpoint's elements and where in the tile they belong.
struct Piece {
  Checkpoint::Run run;
  std::uint64_t to = 0;  // elements from the start of the tile
};

void refuse(const Checkpoint& checkpoint, const std::string& why) {
  throw Failure(make_error(ErrorKind::kInvalid, "resume from checkpoint",
                           checkpoint.directory().string(), why)
                    .value());
}

void compare(const Checkpoint& checkpoint, const char* what, const std::string& saved,
             const std::string& wanted) {
  if (saved == wanted) return;
  refuse(checkpoint, std::string(what) + " is " + saved + " there and " + wanted + " in this run");
}

void check_format(const ModelStates& states, const Checkpoint& checkpoint) {
  const OptimizerFormat wanted = optimizer_format(states.config());
  const OptimizerFormat& saved = checkpoint.manifest().format;
  compare(checkpoint, "the optimizer", to_string(saved.kind), to_string(wanted.kind));
  compare(checkpoint, "the number format (bf16.enabled)", to_string(saved.weights),
          to_string(wanted.weights));
  compare(checkpoint, "optimizer.params.state_dtype", to_string(saved.states),
          to_string(wanted.states));
  compare(checkpoint, "the seed (--seed)", std::to_string(checkpoint.manifest().seed),
          std::to_string(states.config().seed));
}

// The number in the checkpoint of each of the model's parameters.
std::vector<std::uint32_t> match_parameters(const ModelStates& states,
                                            const Checkpoint& checkpoint) {
  std::map<std::string, std::uint32_t> saved;
  for (const CheckpointParameter& parameter : checkpoint.manifest().parameters) {
    saved.emplace(parameter.name, static_cast<std::uint32_t>(saved.size()));
  }
  const std::vector<CheckpointParameter> wanted = list_parameters(states);
  std::vector<std::uint32_t> numbers;
  for (const CheckpointParameter& parameter : wanted) {
    const auto found = saved.find(parameter.name);
    if (found == saved.end()) {
      refuse(checkpoint, "it has no parameter '" + parameter.name + "': another model");
    }
    const CheckpointParameter& there = checkpoint.manifest().parameters[found->second];
    if (there.shape != parameter.shape) {
      refuse(checkpoint, "parameter '" + parameter.name + "' has another shape: another model");
    }
    if (there.frozen != parameter.frozen) {
      refuse(checkpoint, "parameter '" + parameter.name + "' is " +
                             (there.frozen ? "frozen there and not here" : "frozen here alone"));
    }
    numbers.push_back(found->second);
  }
  if (saved.size() != wanted.size()) {
    refuse(checkpoint, "it has " + std::to_string(saved.size()) + " parameters, the model " +
                           std::to_string(wanted.size()) + ": another model");
  }
  return numbers;
}

class TileLoader {
 public:
  TileLoader(Checkpoint& checkpoint, const OptimizerFormat& format)
      : checkpoint_(checkpoint), format_(format), planes_(checkpoint.planes()) {}

  // Fills planes[i], of `elements`, with the checkpoint's plane i; padding with zeros.
  Result<void> fill(std::span<std::byte* const> planes, std::uint64_t elements,
                    const std::vector<Piece>& pieces) {
    const bool trainable = planes.size() > planes_.weight_count;
    const bool blocks = trainable && format_.states == StateDtype::kInt8;
    const std::size_t scales = blocks ? state_count(format_.kind) : 0;
    for (std::uint32_t plane = 0; plane < planes.size(); ++plane) {
      std::memset(planes[plane], 0, plane_bytes(planes_.all[plane], elements));
    }
    for (std::uint32_t plane = 0; plane < planes.size() - scales; ++plane) {
      if (auto copied = copy(plane, pieces, planes[plane]); !copied) return copied;
    }
    for (std::uint32_t state = 0; state < scales; ++state) {
      const std::size_t first = planes.size() - 2 * scales;
      const StateBlocks target{.state = state,
                               .codes_plane = static_cast<std::uint32_t>(first + state),
                               .codes = reinterpret_cast<std::uint8_t*>(planes[first + state]),
                               .absmax = reinterpret_cast<float*>(planes[first + scales + state]),
                               .scales = static_cast<std::uint32_t>(scales)};
      if (auto scaled = fill_blocks(target, elements, pieces); !scaled) return scaled;
    }
    return {};
  }
  std::uint64_t requantised_blocks() const noexcept { return requantised_; }

 private:
  // One optimizer state in int8: its codes, which are those of the checkpoint already, and absmax.
  struct StateBlocks {
    std::uint32_t state = 0;
    std::uint32_t codes_plane = 0;
    std::uint8_t* codes = nullptr;
    float* absmax = nullptr;
    std::uint32_t scales = 0;
  };

  Result<void> copy(std::uint32_t plane, const std::vector<Piece>& pieces, std::byte* to) {
    const std::uint64_t bytes = planes_.all[plane].bytes_per_block;
    for (const Piece& piece : pieces) {
      auto read = checkpoint_.read(piece.run.shard, piece.run.extent, plane, piece.run.offset,
                                   piece.run.count, to + piece.to * bytes);
      if (!read) return read;
    }
    return {};
  }

  // The scale of the saved block that holds element `offset` of the piece's extent.
  Result<float> saved_absmax(const StateBlocks& target, const Piece& piece, std::uint64_t offset) {
    const CheckpointExtent& extent =
        checkpoint_.shards()[piece.run.shard].extents[piece.run.extent];
    const std::uint64_t first = offset / kQuantisedBlock * kQuantisedBlock;
    const std::uint64_t count = std::min<std::uint64_t>(kQuantisedBlock, extent.elements - first);
    float absmax = 0;
    auto read =
        checkpoint_.read(piece.run.shard, piece.run.extent, target.codes_plane + target.scales,
                         first, count, reinterpret_cast<std::byte*>(&absmax));
    if (!read) return tl::unexpected(read.error());
    return absmax;
  }

  // Blocks that are cut as they were saved keep their codes: the same bits. With another number of
  // ranks they may be cut elsewhere; then their values are coded again.
  Result<void> fill_blocks(const StateBlocks& target, std::uint64_t elements,
                           const std::vector<Piece>& pieces) {
    std::size_t next = 0;
    for (std::uint64_t first = 0; first < elements; first += kQuantisedBlock) {
      const std::uint64_t end = std::min<std::uint64_t>(first + kQuantisedBlock, elements);
      while (next < pieces.size() && pieces[next].to + pieces[next].run.count <= first) ++next;
      std::vector<Piece> within;
      for (std::size_t i = next; i < pieces.size() && pieces[i].to < end; ++i) {
        Piece piece = pieces[i];
        const std::uint64_t skipped = piece.to < first ? first - piece.to : 0;
        piece.to += skipped;
        piece.run.offset += skipped;
        piece.run.count = std::min(piece.run.count - skipped, end - piece.to);
        within.push_back(piece);
      }
      if (within.empty()) continue;
      auto filled = fill_block(target, first, end - first, within);
      if (!filled) return filled;
    }
    return {};
  }

  Result<void> fill_block(const StateBlocks& target, std::uint64_t first, std::uint64_t count,
                          const std::vector<Piece>& pieces) {
    const Checkpoint::Run& run = pieces.front().run;
    const std::uint64_t start = run.offset - (pieces.front().to - first);  // of the block there
    const bool same = start % kQuantisedBlock == 0 && std::ranges::all_of(pieces, [&](auto& piece) {
                        return piece.run.shard == run.shard && piece.run.extent == run.extent &&
                               piece.run.offset - start == piece.to - first;
                      });
    if (same) {
      auto absmax = saved_absmax(target, pieces.front(), run.offset);
      if (!absmax) return tl::unexpected(absmax.error());
      target.absmax[first / kQuantisedBlock] = *absmax;
      return {};
    }
    ++requantised_;
    const CodeBook book = book_of(format_.kind, target.state);
    float values[kQuantisedBlock] = {};
    for (const Piece& piece : pieces) {
      for (std::uint64_t done = 0; done < piece.run.count;) {
        const std::uint64_t offset = piece.run.offset + done;
        const std::uint64_t left = kQuantisedBlock - offset % kQuantisedBlock;
        const std::uint64_t taken = std::min(left, piece.run.count - done);
        auto absmax = saved_absmax(target, piece, offset);
        if (!absmax) return tl::unexpected(absmax.error());
        decode_blocks(book, target.codes + piece.to + done, &*absmax, taken,
                      values + (piece.to + done - first));
        done += taken;
      }
    }
    encode_blocks(book, values, count, target.codes + first,
                  target.absmax + first / kQuantisedBlock);
    return {};
  }

  Checkpoint& checkpoint_;
  OptimizerFormat format_;
  const CheckpointPlanes& planes_;
  std::uint64_t requantised_ = 0;
};

std::vector<Piece> pieces_of(const Checkpoint& checkpoint, const CheckpointExtent& tile,
                             const std::vector<std::uint32_t>& numbers) {
  std::vector<Piece> pieces;
  for (const ExtentSegment& segment : tile.segments) {
    std::uint64_t to = segment.offset;
    for (const Checkpoint::Run& run :
         checkpoint.find(numbers[segment.parameter], segment.first, segment.count)) {
      pieces.push_back({run, to});
      to += run.count;
    }
  }
  return pieces;
}

}  // namespace

std::vector<std::string> load_checkpoint(ModelStates& states, Checkpoint& checkpoint) {
  RankAgreement ranks(states.communicator(),
                      "resume from checkpoint " + checkpoint.directory().string());
  TileLoader loader(checkpoint, optimizer_format(states.config()));
  ranks.run([&] {
    check_format(states, checkpoint);
    const std::vector<std::uint32_t> numbers = match_parameters(states, checkpoint);
    value_or_throw(make_writable(states));
    const StateItems tiles = list_state_items(states, swapper::Access::kWrite);
    const auto fill = [&](std::size_t index,
                          std::span<const swapper::PartView> parts) -> Result<void> {
      if (states.stop_requested()) throw Interrupted();
      std::vector<std::byte*> planes;
      for (std::size_t part = 0; part < parts.size(); ++part) {
        const std::uint32_t count = tiles.items[index][part].tier->layout().plane_count();
        for (std::uint32_t plane = 0; plane < count; ++plane) {
          planes.push_back(parts[part].plane(plane));
        }
      }
      const CheckpointExtent& tile = tiles.extents[index];
      auto filled = loader.fill(planes, tile.elements, pieces_of(checkpoint, tile, numbers));
      if (filled) ranks.meet_after_tile();
      return filled;
    };
    value_or_throw(swapper::TileStream::run(tiles.items, fill));
  });
  states.set_has_values();
  std::vector<std::string> notes;
  const double again =
      states.communicator().all_reduce_sum(static_cast<double>(loader.requantised_blocks()));
  if (again > 0) {
    notes.push_back("another number of ranks cuts int8 states into other blocks: " +
                    std::to_string(static_cast<std::uint64_t>(again)) +
                    " of them were rounded again");
  }
  return notes;
}

}  // namespace spillway::trainer
