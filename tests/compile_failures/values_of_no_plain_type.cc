// MISUSE fails with: a tile holds bytes that may be moved
#include <spillway/swapper/tile_stream.h>

using namespace spillway;

#ifdef MISUSE
auto look(const swapper::PartView& part) { return part.values<std::string>(0); }
#else
auto look(const swapper::PartView& part) { return part.values<float>(0); }
#endif
