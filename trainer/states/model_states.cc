#include "trainer/states/model_states.h"
#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <malloc.h>
#include <spillway/aio/check.h>
#include <spillway/swapper/tile_stream.h>
#include <spillway/trainer/failure.h>
#include "trainer/base/nearest_name.h"
#include "trainer/base/seed.h"
#include "trainer/device/device.h"
#include "trainer/kernels/hi_lo.h"
#include "trainer/plan/optimizer_layout.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

namespace spillway::trainer {
namespace {

// Constant apart from the unit's number, so that adding a unit leaves the others' values alone.
std::shared_ptr<Unit> make_module(const UnitSpec& spec, UnitId unit, std::uint64_t seed) {
  auto generator = at::globalContext().defaultGenerator(at::kCPU);
  generator.set_current_seed(derive_seed(seed, 0, unit));
  return spec.make();
}

std::vector<ParameterInfo> describe(const Unit& module, bool decay_biases_and_norms) {
  std::vector<ParameterInfo> parameters;
  for (const auto& item : module.named_parameters()) {
    const at::Tensor& value = item.value();
    ParameterInfo info;
    info.name = item.key();
    info.shape = value.sizes().vec();
    info.elements = static_cast<std::uint64_t>(value.numel());
    info.frozen = !value.requires_grad();
    info.decay = decay_biases_and_norms || value.dim() >= 2;
    parameters.push_back(std::move(info));
  }
  return parameters;
}

[[noreturn]] void refuse_model(std::string why) {
  throw Failure(make_error(ErrorKind::kInvalid, "make the model", "", std::move(why)).value());
}

// Finds parameters of one unit that are those of another: whoever makes a unit must make its
// parameters too. Holds no memory of theirs.
class SharedParameters {
 public:
  void check(const UnitSpec& spec, const Unit& module) {
    std::vector<std::pair<c10::StorageImpl*, Seen>> own;
    for (const auto& item : module.named_parameters()) {
      const c10::Storage& storage = item.value().storage();
      if (storage.nbytes() == 0) continue;
      const auto other = seen_.find(storage.unsafeGetStorageImpl());
      // The address may be that of one that is gone.
      if (other != seen_.end() && !other->second.storage.expired()) {
        refuse_model("parameter '" + item.key() + "' of unit '" + spec.name + "' is '" +
                     other->second.parameter + "' of unit '" + other->second.unit +
                     "': let one of them register it, and the other borrow it (UnitSpec::borrows)");
      }
      own.emplace_back(storage.unsafeGetStorageImpl(),
                       Seen{spec.name, item.key(), storage.getWeakStorageImpl()});
    }
    for (auto& [storage, seen] : own) seen_.insert_or_assign(storage, std::move(seen));
  }

 private:
  struct Seen {
    std::string unit, parameter;
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
  };
  std::unordered_map<c10::StorageImpl*, Seen> seen_;
};

// The small objects of a module that stay keep glibc's heap from shrinking below them: of each unit
// that was made, two thirds of its fp32 values would stay with the process, until all are there.
void return_free_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// This rank's part of one section of the unit, fp32, from the parameters' values.
std::vector<float> flatten_part(const UnitPartition& partition, Section section, std::uint32_t rank,
                                const std::vector<at::Tensor>& values) {
  const std::uint64_t part = partition.part_elements(section);
  std::vector<float> flat(part, 0.0f);
  const std::uint64_t begin = rank * part;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const ParameterInfo& info = partition.parameters()[i];
    if (info.frozen != (section == kFrozen)) continue;
    const std::uint64_t offset = partition.parameter_offset(i);
    const std::uint64_t first = std::max(begin, offset);
    const std::uint64_t last = std::min(begin + part, offset + info.elements);
    if (first >= last) continue;
    std::memcpy(flat.data() + (first - begin), values[i].const_data_ptr<float>() + (first - offset),
                (last - first) * sizeof(float));
  }
  return flat;
}

}  // namespace

ModelStates::ModelStates(const Config& config, const ModelSpec& model, Communicator& communicator,
                         at::Device device, const std::atomic<bool>* stop, InitialValues initial)
    : config_(config),
      communicator_(&communicator),
      device_(device),
      kind_(kind_of(device)),
      stop_(stop) {
  measure(model);
  resolve_borrows(model);
  open_tiers();
  initialise(model, initial);
}

at::ScalarType ModelStates::weight_type() const noexcept {
  return config_.dtype == Dtype::kBf16 ? at::kBFloat16 : at::kFloat;
}

void ModelStates::measure(const ModelSpec& model) {
  const std::uint64_t tile = tile_elements(config_, kMaxTileElements);
  swapper::TileId next = 0;
  swapper::TileId next_trainable = 0;
  SharedParameters shared;
  for (UnitId id = 0; id < model.units().size(); ++id) {
    if (stop_requested()) throw Interrupted();
    const UnitSpec& spec = model.units()[id];
    const auto module = make_module(spec, id, config_.seed);
    shared.check(spec, *module);
    UnitState unit{
        UnitPartition(spec.name, describe(*module, config_.optimizer.decay_biases_and_norms),
                      communicator_->world_size(), communicator_->rank(), tile),
        nullptr,
        {},
        next,
        next_trainable,
        {}};
    for (const TileSpan& span : unit.partition.tiles()) {
      ++next;
      if (span.section == kTrainable) ++next_trainable;
    }
    units_.push_back(std::move(unit));
  }
}

void ModelStates::open_tiers() {
  StateTiers::Tiles tiles;
  for (const UnitState& unit : units_) {
    for (const TileSpan& span : unit.partition.tiles()) {
      tiles.all.push_back(span.elements);
      if (span.section == kTrainable) tiles.trainable.push_back(span.elements);
    }
    tiles.max_unit_tiles = std::max(tiles.max_unit_tiles, unit.partition.tiles().size());
  }
  tiers_ = std::make_unique<StateTiers>(config_, tiles, *communicator_, device_);
}

void ModelStates::initialise(const ModelSpec& model, InitialValues initial) {
  const auto options = at::TensorOptions().dtype(weight_type()).device(device_);
  for (UnitId id = 0; id < units_.size(); ++id) {
    if (stop_requested()) throw Interrupted();
    UnitState& unit = units_[id];
    unit.module = make_module(model.units()[id], id, config_.seed);
    std::vector<at::Tensor> values;
    for (at::Tensor& parameter : unit.module->parameters()) {
      unit.parameters.push_back(parameter);
      values.push_back(parameter.detach().contiguous());
      SPILLWAY_CHECK(
          values.back().scalar_type() == at::kFloat && values.back().device() == at::kCPU,
          "a unit makes its parameters in fp32 on the CPU");
    }
    if (initial == InitialValues::kOfSeed) write_unit(unit, values);
    for (at::Tensor& parameter : unit.parameters) parameter.set_data(at::empty({0}, options));
    for (auto& buffer : unit.module->named_buffers()) {
      buffer.value().set_data(buffer.value().to(device_));
      unit.buffers.push_back({buffer.key(), buffer.value()});
    }
    values.clear();
    return_free_memory();
  }
  has_values_ = initial == InitialValues::kOfSeed;
}

void ModelStates::write_unit(UnitState& unit, const std::vector<at::Tensor>& values) {
  const std::uint32_t rank = communicator_->rank();
  const std::vector<float> flat[2] = {flatten_part(unit.partition, kTrainable, rank, values),
                                      flatten_part(unit.partition, kFrozen, rank, values)};
  const bool split = config_.dtype == Dtype::kBf16;
  const std::vector<TileSpan>& spans = unit.partition.tiles();
  std::vector<swapper::Item> items;
  swapper::TileId tile = unit.first_tile;
  swapper::TileId optimizer_tile = unit.first_optimizer_tile;
  for (const TileSpan& span : spans) {
    swapper::Item item{{&tiers_->weights(), tile++, tiers_->weights().layout().all(),
                        swapper::Access::kWrite, tiers_->weight_pool()}};
    if (span.section == kTrainable) {
      item.push_back({&tiers_->optimizer(), optimizer_tile++, tiers_->optimizer().layout().all(),
                      swapper::Access::kWrite, tiers_->optimizer_pool()});
    }
    items.push_back(std::move(item));
  }
  const auto fill = [&](std::size_t index,
                        std::span<const swapper::PartView> parts) -> Result<void> {
    const TileSpan& span = spans[index];
    const float* source = flat[span.section].data() + span.offset;
    auto* weight = parts[0].plane(0);
    const bool states = span.section == kTrainable;
    auto* low = split && states ? reinterpret_cast<std::uint16_t*>(parts[1].plane(0)) : nullptr;
    if (split) {
      for (std::uint64_t i = 0; i < span.elements; ++i) {
        const HiLo halves = hi_lo_split(source[i]);
        reinterpret_cast<std::uint16_t*>(weight)[i] = halves.hi;
        if (low != nullptr) low[i] = halves.lo;
      }
    } else {
      std::memcpy(weight, source, span.elements * sizeof(float));
    }
    if (states) {
      const swapper::Layout& layout = tiers_->optimizer().layout();
      for (std::uint32_t plane = split ? 1 : 0; plane < layout.plane_count(); ++plane) {
        std::memset(parts[1].plane(plane), 0, layout.plane_bytes(plane, span.elements));
      }
    }
    return {};
  };
  value_or_throw(swapper::TileStream::run(items, fill));
}

void ModelStates::resolve_borrows(const ModelSpec& model) {
  for (UnitId id = 0; id < units_.size(); ++id) {
    for (const Borrow& borrow : model.units()[id].borrows) {
      const std::string borrower = "unit '" + units_[id].partition.name() + "' borrows '";
      if (borrow.owner >= units_.size() || borrow.owner == id) {
        refuse_model(borrower + borrow.parameter + "' of unit number " +
                     std::to_string(borrow.owner) + ", which is " +
                     (borrow.owner == id ? "itself" : "not in the model"));
      }
      const UnitPartition& owner = units_[borrow.owner].partition;
      const auto found =
          std::ranges::find(owner.parameters(), borrow.parameter, &ParameterInfo::name);
      if (found == owner.parameters().end()) {
        std::vector<std::string> names;
        for (const ParameterInfo& info : owner.parameters()) names.push_back(info.name);
        const std::string nearest = nearest_name(borrow.parameter, names);
        refuse_model(borrower + borrow.parameter + "' of unit '" + owner.name() +
                     "', which has no such parameter" +
                     (nearest.empty() ? "" : "; did you mean '" + nearest + "'?"));
      }
      const auto parameter = static_cast<std::uint32_t>(found - owner.parameters().begin());
      for (const UnitState::Borrowed& other : units_[id].borrows) {
        if (other.owner == borrow.owner && other.parameter == parameter) {
          refuse_model(borrower + borrow.parameter + "' of unit '" + owner.name() + "' twice");
        }
      }
      units_[id].borrows.push_back({borrow.owner, parameter});
    }
  }
}

std::uint64_t ModelStates::parameter_count() const {
  std::uint64_t count = 0;
  for (const UnitState& unit : units_) {
    for (const ParameterInfo& info : unit.partition.parameters()) count += info.elements;
  }
  return count;
}

std::uint64_t ModelStates::trainable_parameter_count() const {
  std::uint64_t count = 0;
  for (const UnitState& unit : units_) {
    for (const ParameterInfo& info : unit.partition.parameters()) {
      if (!info.frozen) count += info.elements;
    }
  }
  return count;
}

std::vector<UnitId> ModelStates::units_needed(UnitId unit) const {
  std::vector<UnitId> needed{unit};
  for (const auto& borrowed : units_[unit].borrows) needed.push_back(borrowed.owner);
  std::sort(needed.begin(), needed.end());
  needed.erase(std::unique(needed.begin(), needed.end()), needed.end());
  return needed;
}

}  // namespace spillway::trainer
