// MISUSE fails with: use of deleted function
#include <spillway/pinned_pool/pool.h>

using namespace spillway;

#ifdef MISUSE
pinned_pool::Lease second_owner(pinned_pool::Lease& lease) { return lease; }
#else
pinned_pool::Lease second_owner(pinned_pool::Lease& lease) { return std::move(lease); }
#endif
