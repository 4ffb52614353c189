// Runs a test on each of Highway's targets that this CPU has.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>
#include "trainer/kernels/update.h"

#include <cstdint>
#include <set>
#include <string>

namespace spillway::trainer::testing {

// Calls body() for each target, and once for the reference. Restores the choice of the target, and
// returns the names.
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
