// MISUSE fails with: cannot convert .span<const std::byte>
#include <spillway/aio/buffer.h>

using namespace spillway;

#ifdef MISUSE
aio::Buffer lend(std::span<const std::byte> memory) { return aio::Buffer::borrow(memory); }
#else
aio::Buffer lend(std::span<std::byte> memory) { return aio::Buffer::borrow(memory); }
#endif
