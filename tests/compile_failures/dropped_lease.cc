// MISUSE fails with: declared with attribute .nodiscard
#include <spillway/pinned_pool/pool.h>

using namespace spillway;

#ifdef MISUSE
void take(pinned_pool::Pool& pool) { pool.acquire(); }
#else
pinned_pool::Lease take(pinned_pool::Pool& pool) { return pool.acquire(); }
#endif
