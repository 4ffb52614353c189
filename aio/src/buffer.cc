#include <spillway/aio/buffer.h>
#include <spillway/aio/check.h>

#include <cstdlib>

namespace spillway::aio {
namespace {

void free_heap(void*, std::byte* data, std::size_t) noexcept { std::free(data); }

}  // namespace

Buffer Buffer::allocate(std::size_t capacity, std::size_t alignment) {
  SPILLWAY_CHECK(alignment != 0 && (alignment & (alignment - 1)) == 0,
                 "the alignment of a Buffer is a power of two");
  void* memory = nullptr;
  std::size_t at_least = alignment < sizeof(void*) ? sizeof(void*) : alignment;
  int rc = ::posix_memalign(&memory, at_least, capacity == 0 ? 1 : capacity);
  SPILLWAY_CHECK(rc == 0, "out of memory for a heap Buffer");
  return {static_cast<std::byte*>(memory), capacity, free_heap, nullptr};
}

}  // namespace spillway::aio
