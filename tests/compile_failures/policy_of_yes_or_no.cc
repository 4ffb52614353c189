// MISUSE fails with: cannot convert .bool. to .spillway::pinned_pool::Policy
#include <spillway/pinned_pool/pool.h>

using namespace spillway;

#ifdef MISUSE
const pinned_pool::PoolOptions kOptions{.lock = true};
#else
const pinned_pool::PoolOptions kOptions{.lock = pinned_pool::Policy::kRequired};
#endif
