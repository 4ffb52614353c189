// RamTier: a Tier in one page-locked Slab (or plain memory). Every plane is resident.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/pinned_pool/slab.h>
#include <spillway/swapper/tier.h>
#include <memory>
#include <vector>

namespace spillway::swapper {

struct RamTierOptions {
  pinned_pool::Policy lock = pinned_pool::Policy::kAuto;
  pinned_pool::Policy huge_pages = pinned_pool::Policy::kAuto;
  pinned_pool::Policy cuda = pinned_pool::Policy::kAuto;
  int numa_node = -1;
};

// Makes tiles of `tile_elements`, zeroed. kNoMemory, with the arithmetic, if they do not fit.
// REQUIRES: each has at least one element.
SPILLWAY_API Result<std::unique_ptr<Tier>> make_ram_tier(const Layout& layout,
                                                         std::vector<std::uint64_t> tile_elements,
                                                         const RamTierOptions& options = {});

}  // namespace spillway::swapper
