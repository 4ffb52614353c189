// MISUSE fails with: use of deleted function
#include <spillway/aio/engine.h>

using namespace spillway;

#ifdef MISUSE
aio::Ticket submit(aio::Engine& engine, const aio::Engine::Request& request, aio::Buffer& buffer) {
  return engine.read(request, buffer);
}
#else
aio::Ticket submit(aio::Engine& engine, const aio::Engine::Request& request, aio::Buffer& buffer) {
  return engine.read(request, std::move(buffer));
}
#endif
