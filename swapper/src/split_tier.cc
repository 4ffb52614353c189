#include <spillway/aio/check.h>
#include <spillway/swapper/split_tier.h>
#include <string>
#include <utility>

#include "placed_tier.h"

namespace spillway::swapper {
namespace {

bool same_layout(const Layout& a, const Layout& b) {
  if (a.plane_count() != b.plane_count()) return false;
  for (std::uint32_t plane = 0; plane < a.plane_count(); ++plane) {
    const Plane& p = a.planes()[plane];
    const Plane& q = b.planes()[plane];
    if (p.name != q.name || p.bytes_per_block != q.bytes_per_block ||
        p.elements_per_block != q.elements_per_block) {
      return false;
    }
  }
  return true;
}

class SplitTier final : public PlacedTier<Tier> {
 public:
  SplitTier(const std::vector<bool>& in_upper, std::unique_ptr<Tier> upper,
            std::unique_ptr<Tier> lower)
      : upper_(std::move(upper)), lower_(std::move(lower)) {
    SPILLWAY_CHECK(same_layout(upper_->layout(), lower_->layout()), "both tiers have one layout");
    TileId upper_count = 0;
    TileId lower_count = 0;
    places_.reserve(in_upper.size());
    for (const bool up : in_upper) {
      places_.push_back(up ? Place{upper_.get(), upper_count++}
                           : Place{lower_.get(), lower_count++});
    }
    SPILLWAY_CHECK(upper_count == upper_->tile_count(), "every tile of the upper tier is used");
    SPILLWAY_CHECK(lower_count == lower_->tile_count(), "every tile of the lower tier is used");
    name_ = std::string(lower_->name()) + " cached in " + upper_->name();
  }

  Result<void> seal(const std::vector<bool>& rewritten) override {
    SPILLWAY_CHECK(rewritten.size() == tile_count(), "each tile is written again or not");
    std::vector<bool> below;
    for (TileId tile = 0; tile < rewritten.size(); ++tile) {
      if (place(tile).tier == lower_.get()) below.push_back(rewritten[tile]);
    }
    return lower_->seal(below);
  }

  const char* name() const noexcept override { return name_.c_str(); }
  const Layout& layout() const noexcept override { return lower_->layout(); }
  TierStats stats() const noexcept override { return lower_->stats(); }
  std::uint64_t memory_bytes() const noexcept override {
    return upper_->memory_bytes() + lower_->memory_bytes();
  }
  std::uint64_t storage_bytes() const noexcept override {
    return upper_->storage_bytes() + lower_->storage_bytes();
  }

 private:
  std::unique_ptr<Tier> upper_;
  std::unique_ptr<Tier> lower_;
  std::string name_;
};

}  // namespace

std::unique_ptr<Tier> make_split_tier(std::vector<bool> in_upper, std::unique_ptr<Tier> upper,
                                      std::unique_ptr<Tier> lower) {
  return std::make_unique<SplitTier>(in_upper, std::move(upper), std::move(lower));
}

}  // namespace spillway::swapper
