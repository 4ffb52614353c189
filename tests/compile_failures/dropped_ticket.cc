// MISUSE fails with: declared with attribute .nodiscard
#include <spillway/aio/engine.h>

using namespace spillway;

#ifdef MISUSE
void start(aio::Engine& engine, const aio::Engine::Request& request, aio::Buffer buffer) {
  engine.write(request, std::move(buffer));
}
#else
aio::Ticket start(aio::Engine& engine, const aio::Engine::Request& request, aio::Buffer buffer) {
  return engine.write(request, std::move(buffer));
}
#endif
