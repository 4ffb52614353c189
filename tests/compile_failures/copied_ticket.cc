// MISUSE fails with: use of deleted function
#include <spillway/aio/engine.h>

using namespace spillway;

#ifdef MISUSE
aio::Ticket second_owner(aio::Ticket& ticket) { return ticket; }
#else
aio::Ticket second_owner(aio::Ticket& ticket) { return std::move(ticket); }
#endif
