#include "trainer/checkpoint/state_items.h"

namespace spillway::trainer {
namespace {

CheckpointExtent extent_of(const UnitPartition& partition, const TileSpan& span,
                           std::uint32_t first_parameter, std::uint32_t rank) {
  CheckpointExtent extent{.elements = span.elements, .segments = {}, .planes = {}};
  const std::uint64_t begin = rank * partition.part_elements(span.section) + span.offset;
  for (const Segment& segment : span.segments) {
    extent.segments.push_back(
        {.parameter = first_parameter + segment.parameter,
         .first = begin + segment.tile_offset - partition.parameter_offset(segment.parameter),
         .offset = segment.tile_offset,
         .count = segment.elements});
  }
  return extent;
}

}  // namespace

std::vector<CheckpointParameter> list_parameters(const ModelStates& states) {
  std::vector<CheckpointParameter> parameters;
  for (const ModelStates::UnitState& unit : states.units()) {
    for (const ParameterInfo& info : unit.partition.parameters()) {
      parameters.push_back({unit.partition.name() + "." + info.name, info.shape, info.frozen});
    }
  }
  return parameters;
}

Result<void> make_writable(ModelStates& states) {
  for (swapper::Tier* tier : {&states.tiers().weights(), &states.tiers().optimizer()}) {
    bool any = false;
    for (swapper::TileId tile = 0; tile < tier->tile_count() && !any; ++tile) {
      any = tier->sealed(tile).has_value();
    }
    if (!any) continue;
    if (auto sealed = tier->seal(std::vector<bool>(tier->tile_count(), true)); !sealed) {
      return sealed;
    }
  }
  return {};
}

StateItems list_state_items(ModelStates& states, swapper::Access access) {
  StateItems list;
  StateTiers& tiers = states.tiers();
  // The update's buffers are free while no update runs; the fetcher may use those of weights.
  pinned_pool::Pool* const weight_pool =
      tiers.optimizer().tile_count() > 0 ? tiers.update_weight_pool() : tiers.weight_pool();
  std::uint32_t first_parameter = 0;
  for (const ModelStates::UnitState& unit : states.units()) {
    swapper::TileId tile = unit.first_tile;
    swapper::TileId optimizer_tile = unit.first_optimizer_tile;
    for (const TileSpan& span : unit.partition.tiles()) {
      swapper::Item item{
          {&tiers.weights(), tile++, tiers.weights().layout().all(), access, weight_pool}};
      if (span.section == kTrainable) {
        item.push_back({&tiers.optimizer(), optimizer_tile++, tiers.optimizer().layout().all(),
                        access, tiers.optimizer_pool()});
      }
      list.items.push_back(std::move(item));
      list.extents.push_back(
          extent_of(unit.partition, span, first_parameter, states.communicator().rank()));
    }
    first_parameter += static_cast<std::uint32_t>(unit.partition.parameters().size());
  }
  return list;
}

}  // namespace spillway::trainer
