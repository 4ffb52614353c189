// UnitId: the number of a unit within its model, in the order of ModelSpec::add. Needs no torch.
#pragma once

#include <cstdint>

namespace spillway::trainer {

using UnitId = std::uint32_t;

}  // namespace spillway::trainer
