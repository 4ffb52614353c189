// MISUSE fails with: use of deleted function
#include <spillway/aio/engine.h>

using namespace spillway;

#ifdef MISUSE
void use(aio::Engine engine) { (void)engine.stats(); }
void call(aio::Engine& engine) { use(engine); }
#else
void use(aio::Engine& engine) { (void)engine.stats(); }
void call(aio::Engine& engine) { use(engine); }
#endif
