// make_ram_tier for many tiers in a row: reading the limits looks at every page that is mapped and
// not touched yet, which for all tiers before the last would be done over and over.
#pragma once

#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/ram_tier.h>
#include <memory>
#include <vector>

namespace spillway::swapper {

// Takes the memory from `limits`, which the caller read before.
Result<std::unique_ptr<Tier>> make_ram_tier_within(pinned_pool::MemoryLimits& limits,
                                                   const Layout& layout,
                                                   std::vector<std::uint64_t> tile_elements,
                                                   const RamTierOptions& options);

}  // namespace spillway::swapper
