// QuantisationTables: the dynamic tree code as arithmetic. Inside a decade the value is linear in
// the code, so 8 entries replace a search in 256 values. Internal to block_quantisation.
//
// The codes of magnitudes are counted upwards from 0. With kSigned the cells of decade i (0 .. 6)
// are the codes 2^i .. 2^(i+1) - 1 and 1 is 128; with kUnsigned 2^(i+1) - 1 .. 2^(i+2) - 2 and 255.
#pragma once

#include "trainer/kernels/block_quantisation.h"

#include <initializer_list>

namespace spillway::trainer {

// Each entry occurs twice, to fill a vector of 16.
struct QuantisationTables {
  // magnitude = fma(x, slope[e], offset[e]), at most 1: kSigned x = code, kUnsigned x = code + 1;
  // e = floor(log2(x)) clamped to 0 .. 7.
  float slope[16], offset[16];
  // y in [0, 1]; d = how many of threshold[1 .. 7] are <= y: the decade, 7 for 1 itself, zero and
  // decade 0 being one. code = trunc(min(fma(y, scale[d], bias[d]), last[d])).
  float threshold[16], next[16];  // next[d] = threshold[d + 1]
  float scale[16], bias[16], last[16];
};

constexpr QuantisationTables make_quantisation_tables(CodeBook book) {
  const bool is_signed = book == CodeBook::kSigned;
  QuantisationTables t{};
  constexpr double kUpperEnds[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
  double below = 0;  // the value before the decade's first
  double cells = is_signed ? 1 : 2;
  for (int decade = 0; decade < 7; ++decade) {
    const double power = kUpperEnds[decade];
    const double first_code = is_signed ? cells : cells - 1;
    const double half_cell = 0.45 * power / cells;
    const double first = 0.1 * power + half_cell;
    t.threshold[decade] = static_cast<float>((below + first) / 2);
    t.scale[decade] = static_cast<float>(cells / (0.9 * power));
    t.bias[decade] = static_cast<float>(first_code - cells / 9);
    t.last[decade] = static_cast<float>(first_code + cells - 1);
    // Of x = cells + j: first + j 2 half_cell.
    const int entry = is_signed ? decade : decade + 1;
    t.slope[entry] = static_cast<float>(2 * half_cell);
    t.offset[entry] = static_cast<float>(first - cells * 2 * half_cell);
    below = power - half_cell;
    cells *= 2;
  }
  t.threshold[7] = static_cast<float>((below + 1) / 2);
  t.bias[7] = t.last[7] = is_signed ? 128 : 255;
  if (is_signed) {
    // 0 and the one cell of decade 0, 0.55e-6: the border lies half way.
    t.slope[0] = 0.55e-6f;
    t.offset[0] = 0;
    t.scale[0] = static_cast<float>(1 / 0.275e-6);
    t.bias[0] = 0;
    t.offset[7] = 1;  // and slope 0: code 128
  } else {
    // 0 and the two cells of decade 0, 0.325e-6 and 0.775e-6, with borders 0.1625e-6, 0.55e-6.
    t.scale[0] = static_cast<float>(1 / 0.3875e-6);
    t.bias[0] = static_cast<float>(1 - 0.1625 / 0.3875);
  }
  for (int i = 0; i < 7; ++i) t.next[i] = t.threshold[i + 1];
  for (int i = 0; i < 8; ++i) {
    for (float* table : {t.slope, t.offset, t.threshold, t.next, t.scale, t.bias, t.last}) {
      table[i + 8] = table[i];
    }
  }
  return t;
}

inline constexpr QuantisationTables kSignedTables = make_quantisation_tables(CodeBook::kSigned);
inline constexpr QuantisationTables kUnsignedTables = make_quantisation_tables(CodeBook::kUnsigned);

}  // namespace spillway::trainer
