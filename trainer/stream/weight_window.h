// WeightWindow: what a kept graph sees of a unit's weights, while their memory comes and goes.
//
// Autograd keeps views of a parameter (a transposed weight), and a view holds its storage, not its
// address. So the forward of a graph that is kept runs on parameters that lie in a storage of the
// window's own, which owns no memory: it points at the fetched weights while they are there, at
// nothing between, and at wherever the fetch in backward has put them. Views made in forward then
// read the refilled weights. One thread at a time.
#pragma once

#include <ATen/core/Tensor.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <vector>

namespace spillway::trainer {

class WeightWindow {
 public:
  // Moves the parameters of the unit, which must be fetched, into the window.
  explicit WeightWindow(ModelStates::UnitState& unit);

  // After the unit was fetched again: the window shows its weights where they are now.
  void open();
  // Before they go: an access through a view then meets no memory instead of other weights.
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
