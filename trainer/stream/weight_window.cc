#include "trainer/stream/weight_window.h"

#include <ATen/Functions.h>
#include <spillway/aio/check.h>

namespace spillway::trainer {

WeightWindow::WeightWindow(ModelStates::UnitState& unit) : unit_(&unit) {
  if (unit.parameters.empty()) return;
  const at::Tensor& first = unit.parameters.front();
  // Offsets are those within the fetched storage, so that a parameter keeps its alignment.
  for (const at::Tensor& parameter : unit.parameters) {
    SPILLWAY_CHECK(parameter.is_contiguous() && parameter.storage().is_alias_of(first.storage()),
                   "a unit's weights are fetched into one flat array");
    places_.push_back({parameter.storage_offset(), parameter.sizes().vec()});
  }
  storage_ = c10::Storage(c10::Storage::use_byte_size_t(), first.storage().nbytes(),
                          at::DataPtr(nullptr, first.device()), /*allocator=*/nullptr,
                          /*resizable=*/false);
  open();
  for (std::size_t i = 0; i < unit.parameters.size(); ++i) {
    at::Tensor& parameter = unit.parameters[i];
    const at::Tensor view = at::empty({0}, parameter.options().requires_grad(false));
    view.unsafeGetTensorImpl()->set_storage_keep_dtype(storage_);
    view.unsafeGetTensorImpl()->set_storage_offset(places_[i].offset);
    view.unsafeGetTensorImpl()->set_sizes_contiguous(places_[i].shape);
    parameter.set_data(view);
  }
}

void WeightWindow::open() {
  if (places_.empty()) return;
  const at::Tensor& first = unit_->parameters.front();
  const auto width = static_cast<std::int64_t>(first.element_size());
  auto* base = static_cast<std::byte*>(first.data_ptr()) - places_.front().offset * width;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    SPILLWAY_CHECK(unit_->parameters[i].numel() == 0 ||
                       unit_->parameters[i].data_ptr() == base + places_[i].offset * width,
                   "a unit's parameters lie at the same places of the flat array in every fetch");
  }
  storage_.set_data_ptr(at::DataPtr(base, first.device()));
}

void WeightWindow::close() {
  if (places_.empty()) return;
  storage_.set_data_ptr(at::DataPtr(nullptr, storage_.device()));
}

}  // namespace spillway::trainer
