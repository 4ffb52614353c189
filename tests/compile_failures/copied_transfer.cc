// MISUSE fails with: use of deleted function
#include <spillway/swapper/tier.h>

using namespace spillway;

#ifdef MISUSE
swapper::Transfer second_owner(swapper::Transfer& t) { return t; }
#else
swapper::Transfer second_owner(swapper::Transfer& t) { return std::move(t); }
#endif
