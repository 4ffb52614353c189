// How many buffers a stream needs so that the drive never waits for one.
#pragma once

#include <spillway/aio/engine_options.h>
#include <spillway/aio/export.h>
#include <cstddef>

namespace spillway::swapper {

// Little's law: a drive is busy while throughput x latency bytes are under way, and however slow or
// fast it is, the engine keeps queue_depth x thread_count operations of block_size_bytes under way
// at most. So many must be there to be started whenever one ends, reads and writes together:
//
//   ceil(queue_depth x thread_count / ceil(buffer_bytes / block_size_bytes))
//
// and 3 more, for the tile that is computed and, of each direction, the one whose last operations
// are under way, which fills the queue no longer. Tiles of 10 MiB, blocks of 1 MiB, depth
// 32: 4 + 3. REQUIRES: buffer_bytes > 0.
SPILLWAY_API std::size_t stream_buffers(const aio::EngineOptions& engine, std::size_t buffer_bytes);

}  // namespace spillway::swapper
