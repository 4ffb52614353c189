// MISUSE fails with: no matching function|could not convert|cannot convert
#include <spillway/swapper/tile_stream.h>

using namespace spillway;

#ifdef MISUSE
auto run(std::span<const swapper::Item> items) {
  return swapper::TileStream::run(items, [](auto, auto) {});
}
#else
auto run(std::span<const swapper::Item> items) {
  return swapper::TileStream::run(items, [](auto, auto) { return Result<void>(); });
}
#endif
