#include <spillway/aio/check.h>
#include <spillway/swapper/stream_buffers.h>

namespace spillway::swapper {

std::size_t stream_buffers(const aio::EngineOptions& engine, std::size_t buffer_bytes) {
  SPILLWAY_CHECK(buffer_bytes > 0, "a buffer has a size");
  const std::size_t operations = std::size_t{engine.queue_depth} * engine.thread_count;
  const std::size_t of_a_buffer =
      (buffer_bytes + engine.block_size_bytes - 1) / engine.block_size_bytes;
  return (operations + of_a_buffer - 1) / of_a_buffer + 3;
}

}  // namespace spillway::swapper
