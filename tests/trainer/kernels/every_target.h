// A test that runs on each of Highway's targets this CPU has, one after another.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>
#include "trainer/kernels/update.h"

#include <cstdint>
#include <set>
#include <string>

namespace spillway::trainer::testing {

// Calls body() with one target after another, with the reference once; returns their names and
// restores the choice.
template <typename Body>
std::set<std::string> for_each_target(Body body) {
  hwy::SetSupportedTargetsForTest(0);
  std::set<std::string> names;
  for (std::int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
    hwy::SetSupportedTargetsForTest(rest & -rest);
    SCOPED_TRACE(simd_target_name());
    if (names.insert(simd_target_name()).second) body();
  }
  hwy::SetSupportedTargetsForTest(0);
  return names;
}

}  // namespace spillway::trainer::testing
