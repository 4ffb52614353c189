// The modules of a model without an engine, for training it in plain libtorch.
#pragma once

#include <ATen/Context.h>
#include <spillway/trainer/unit.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "trainer/base/seed.h"

namespace spillway::trainer::testing {

// Makes the units' modules, with the values that the engine starts from.
inline std::vector<std::shared_ptr<Unit>> make_modules(const ModelSpec& model, std::uint64_t seed) {
  std::vector<std::shared_ptr<Unit>> modules;
  for (UnitId id = 0; id < model.units().size(); ++id) {
    at::Generator generator = at::globalContext().defaultGenerator(at::kCPU);
    generator.set_current_seed(derive_seed(seed, 0, id));
    modules.push_back(model.units()[id].make());
  }
  return modules;
}

}  // namespace spillway::trainer::testing
