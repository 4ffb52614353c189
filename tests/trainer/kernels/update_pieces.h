// A tile cut into pieces, for the tests of the kernels.
#pragma once

#include "trainer/kernels/update.h"

#include <cstring>
#include <vector>

namespace spillway::trainer::testing {

// Pieces that start at `offsets`, every second one without weight decay, each with a copy of its
// gradient in memory of its own.
class UpdatePieces {
 public:
  UpdatePieces(const UpdatePlanes& planes, std::uint64_t size, const UpdateConstants& constants,
               const std::vector<std::uint64_t>& offsets) {
    const std::size_t width = planes.format.gradients == Dtype::kBf16 ? 2 : 4;
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      const std::uint64_t end = i + 1 == offsets.size() ? size : offsets[i + 1];
      const auto* from = static_cast<const std::byte*>(planes.gradient) + offsets[i] * width;
      gradients_.emplace_back(from, from + (end - offsets[i]) * width);
      pieces_.push_back({.offset = offsets[i],
                         .elements = end - offsets[i],
                         .gradient = gradients_.back().data(),
                         .constants = i % 2 == 0 ? constants : constants.without_weight_decay()});
    }
  }
  const std::vector<UpdatePiece>& get() const { return pieces_; }

 private:
  std::vector<std::vector<std::byte>> gradients_;
  std::vector<UpdatePiece> pieces_;
};

}  // namespace spillway::trainer::testing
