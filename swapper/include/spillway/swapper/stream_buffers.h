// The number of buffers with which a stream keeps its drive busy.
#pragma once

#include <spillway/aio/engine_options.h>
#include <spillway/aio/export.h>
#include <cstddef>

namespace spillway::swapper {

// Returns the buffers that keep the engine's queue full. By Little's law a drive is busy while
// throughput x latency bytes are in flight. The engine keeps at most queue_depth x thread_count
// operations of block_size_bytes in flight, so a full queue needs, for reads and writes together,
//
//   ceil(queue_depth x thread_count / ceil(buffer_bytes / block_size_bytes))
//
// buffers, and 3 more: the tile being computed and, for each direction, the tile whose last
// operations no longer fill the queue. Example: tiles of 10 MiB, blocks of 1 MiB and depth 32 need
// 4 + 3. REQUIRES: buffer_bytes > 0.
SPILLWAY_API std::size_t stream_buffers(const aio::EngineOptions& engine, std::size_t buffer_bytes);

}  // namespace spillway::swapper
