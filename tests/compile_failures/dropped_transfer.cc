// MISUSE fails with: declared with attribute .nodiscard
#include <spillway/swapper/tier.h>

using namespace spillway;

#ifdef MISUSE
void start(swapper::Tier& tier, pinned_pool::Lease lease) {
  tier.write(0, tier.layout().all(), std::move(lease));
}
#else
swapper::Transfer start(swapper::Tier& tier, pinned_pool::Lease lease) {
  return tier.write(0, tier.layout().all(), std::move(lease));
}
#endif
