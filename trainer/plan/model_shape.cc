#include <spillway/trainer/model_shape.h>

namespace spillway::trainer {

std::uint64_t parameter_count(const ModelShape& shape) {
  std::uint64_t count = 0;
  for (const UnitShape& unit : shape.units) count += unit.parameters();
  return count;
}

std::vector<std::uint64_t> waiting_widths(const ModelShape& shape) {
  std::vector<std::uint64_t> widths;
  for (const UnitUse& use : shape.uses) {
    if (use.output_width > 0) widths.push_back(use.output_width);
  }
  return widths;
}

}  // namespace spillway::trainer
