// Transposes matrices in blocks that fit into the cache. Internal to files of weights.
#pragma once

#include <algorithm>
#include <cstdint>

namespace spillway::trainer {

// Writes the transpose of `from`, [rows, columns], to `to`, [columns, rows], whose rows lie `line`
// values apart.
template <typename Value>
void transpose(const Value* from, std::uint64_t rows, std::uint64_t columns, Value* to,
               std::uint64_t line) {
  constexpr std::uint64_t kSide = 32;
  for (std::uint64_t row = 0; row < rows; row += kSide) {
    for (std::uint64_t column = 0; column < columns; column += kSide) {
      const std::uint64_t last_row = std::min(row + kSide, rows);
      const std::uint64_t last_column = std::min(column + kSide, columns);
      for (std::uint64_t c = column; c < last_column; ++c) {
        for (std::uint64_t r = row; r < last_row; ++r) to[c * line + r] = from[r * columns + c];
      }
    }
  }
}

// Returns how many of `rows` rows of `columns` values fit into a buffer of `values`: at least one.
inline std::uint64_t rows_at_a_time(std::uint64_t values, std::uint64_t rows,
                                    std::uint64_t columns) {
  return std::clamp<std::uint64_t>(values / std::max<std::uint64_t>(columns, 1), 1,
                                   std::max<std::uint64_t>(rows, 1));
}

}  // namespace spillway::trainer
