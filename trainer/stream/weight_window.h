// WeightWindow: the weights of a unit as a kept graph sees them, while their memory changes.
//
// Autograd keeps views of a parameter (a transposed weight), and a view holds its storage, not its
// address. So a kept graph runs on parameters in a storage of the window, which owns no memory. It
// points to the fetched weights while they exist, to nothing in between, and to the new address
// after the fetch in backward: views made in forward then read the weights fetched again. Threads:
// one at a time. Ownership: the unit outlives it.
#pragma once

#include <ATen/core/Tensor.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <vector>

namespace spillway::trainer {

class WeightWindow {
 public:
  // Moves the unit's parameters into the window. REQUIRES: the unit is fetched.
  explicit WeightWindow(ModelStates::UnitState& unit);

  // Points the window to the weights, after the unit was fetched again.
  void open();
  // Points it to nothing, before the weights are released: an access through a view then finds no
  // memory instead of other weights.
  void close();

 private:
  struct Place {
    std::int64_t offset = 0;  // elements from the start of the window
    std::vector<std::int64_t> shape;
  };

  ModelStates::UnitState* unit_;
  c10::Storage storage_;
  std::vector<Place> places_;  // of the unit's parameters
};

}  // namespace spillway::trainer
