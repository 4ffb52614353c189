// A Tier whose tiles lie partly in one tier (RAM) and partly in another (file): the cache.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/swapper/tier.h>
#include <memory>
#include <vector>

namespace spillway::swapper {

// Tile t is in `upper` when in_upper[t], else in `lower`, in order: the first tile marked is
// tile 0 of `upper`, and so on. `stats` counts the lower tier's bytes: what the cache saves is not
// in them. REQUIRES: counts and layouts match.
SPILLWAY_API std::unique_ptr<Tier> make_split_tier(std::vector<bool> in_upper,
                                                   std::unique_ptr<Tier> upper,
                                                   std::unique_ptr<Tier> lower);

}  // namespace spillway::swapper
