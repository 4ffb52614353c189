// MISUSE fails with: discards qualifiers
#include <spillway/pinned_pool/pool.h>

using namespace spillway;

#ifdef MISUSE
aio::Buffer submit(pinned_pool::Lease& lease) { return lease.release(); }
#else
aio::Buffer submit(pinned_pool::Lease& lease) { return std::move(lease).release(); }
#endif
