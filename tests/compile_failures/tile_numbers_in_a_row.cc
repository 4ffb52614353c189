// MISUSE fails with: invalid initialization of reference|could not convert
#include <spillway/swapper/layout.h>

using namespace spillway;

#ifdef MISUSE
const auto kTiles = swapper::cut_into_tiles({10, 100});
#else
const auto kTiles = swapper::cut_into_tiles({.total_elements = 100, .tile_elements = 10});
#endif
