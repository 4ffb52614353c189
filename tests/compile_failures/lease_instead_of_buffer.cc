// MISUSE fails with: no matching function|cannot convert|could not convert
#include <spillway/pinned_pool/pool.h>

using namespace spillway;

#ifdef MISUSE
aio::Ticket submit(aio::Engine& engine, const aio::Engine::Request& request,
                   pinned_pool::Lease lease) {
  return engine.read(request, std::move(lease));
}
#else
aio::Ticket submit(aio::Engine& engine, const aio::Engine::Request& request,
                   pinned_pool::Lease lease) {
  return engine.read(request, std::move(lease).release());
}
#endif
