// SplitTier: a Tier with some tiles in one tier (RAM) and the others in another (files).
#pragma once

#include <spillway/aio/export.h>
#include <spillway/swapper/tier.h>
#include <memory>
#include <vector>

namespace spillway::swapper {

// Puts tile t into `upper` if `in_upper[t]`, else into `lower`, in order: the first marked tile is
// tile 0 of `upper`, and so on. `stats` counts only the bytes of the lower tier.
// REQUIRES: counts and layouts match.
SPILLWAY_API std::unique_ptr<Tier> make_split_tier(std::vector<bool> in_upper,
                                                   std::unique_ptr<Tier> upper,
                                                   std::unique_ptr<Tier> lower);

}  // namespace spillway::swapper
