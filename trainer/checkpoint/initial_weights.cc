#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include "trainer/kernels/hi_lo.h"
#include "trainer/plan/checkpoint_planes.h"

#include <algorithm>
#include <cstring>

#include "trainer/checkpoint/state_items.h"
#include "trainer/ranks/rank_agreement.h"
#include "trainer/states/model_states.h"

namespace spillway::trainer {
namespace {

// Fills a tile's planes: of weights, then, unless it is frozen, of optimizer states.
void split_values(std::span<const float> values, Dtype dtype, std::span<std::byte* const> planes) {
  if (dtype == Dtype::kFp32) {
    std::memcpy(planes[0], values.data(), values.size_bytes());
    return;
  }
  auto* const high = reinterpret_cast<std::uint16_t*>(planes[0]);
  auto* const low = planes.size() > 1 ? reinterpret_cast<std::uint16_t*>(planes[1]) : nullptr;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const HiLo halves = hi_lo_split(values[i]);
    high[i] = halves.hi;
    if (low != nullptr) low[i] = halves.lo;
  }
}

}  // namespace

void set_initial_weights(ModelStates& states, const WeightSource& source) {
  RankAgreement ranks(states.communicator(), "set initial weights");
  ranks.run([&] {
    const std::vector<CheckpointParameter> parameters = list_parameters(states);
    const StateItems tiles = list_state_items(states, swapper::Access::kWrite);
    std::vector<float> values;
    const auto fill = [&](std::size_t index,
                          std::span<const swapper::PartView> parts) -> Result<void> {
      if (states.stop_requested()) throw Interrupted();
      const CheckpointExtent& tile = tiles.extents[index];
      values.assign(tile.elements, 0.0f);
      for (const ExtentSegment& segment : tile.segments) {
        const auto to = std::span(values).subspan(segment.offset, segment.count);
        auto read = source(parameters[segment.parameter].name, segment.first, to);
        if (!read) return read;
      }
      std::vector<std::byte*> planes;
      for (std::size_t part = 0; part < parts.size(); ++part) {
        const swapper::Layout& layout = tiles.items[index][part].tier->layout();
        for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
          std::byte* const bytes = parts[part].plane(plane);
          std::memset(bytes, 0, layout.plane_bytes(plane, tile.elements));
          planes.push_back(bytes);
        }
      }
      split_values(values, states.config().dtype, planes);
      ranks.meet_after_tile();
      return {};
    };
    value_or_throw(swapper::TileStream::run(tiles.items, fill));
  });
  states.set_has_values();
}

}  // namespace spillway::trainer
