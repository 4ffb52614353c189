// MISUSE fails with: captures
#include <spillway/aio/engine.h>
#include <array>

using namespace spillway;

#ifdef MISUSE
using Capture = std::array<char, 100>;
#else
using Capture = std::array<char, 40>;
#endif

void start(aio::Engine& engine, const aio::Engine::Request& request, aio::Buffer buffer,
           const Capture& capture) {
  engine.read(request, std::move(buffer), [capture](const aio::Completion&) { (void)capture; });
}
