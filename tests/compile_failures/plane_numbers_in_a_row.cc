// MISUSE fails with: could not convert|cannot convert|no matching
#include <spillway/swapper/layout.h>

using namespace spillway;

#ifdef MISUSE
const swapper::PlaneRange kSecondAndThird{1, 2};
#else
const swapper::PlaneRange kSecondAndThird{.first = 1, .count = 2};
#endif
