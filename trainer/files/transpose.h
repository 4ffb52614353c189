// A matrix the other way round, in pieces that stay in the cache. Internal to weights' files.
#pragma once

#include <algorithm>
#include <cstdint>

namespace spillway::trainer {

// from: [rows, columns] -> to: [columns, rows], whose lines lie `line` values apart.
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

// How many of `rows` rows of `columns` values a buffer of so many holds: at least one.
inline std::uint64_t rows_at_a_time(std::uint64_t values, std::uint64_t rows,
                                    std::uint64_t columns) {
  return std::clamp<std::uint64_t>(values / std::max<std::uint64_t>(columns, 1), 1,
                                   std::max<std::uint64_t>(rows, 1));
}

}  // namespace spillway::trainer
