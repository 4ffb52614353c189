// MISUSE fails with: use of deleted function
#include <spillway/aio/buffer.h>
#include <utility>

using namespace spillway;

#ifdef MISUSE
aio::Buffer second_owner(aio::Buffer& buffer) { return buffer; }
#else
aio::Buffer second_owner(aio::Buffer& buffer) { return std::move(buffer); }
#endif
