// Piece: the part of a request that one operation moves, cut to the rules of direct I/O.
//
//   request        |---------------------------------------|
//   pages     |--------|--------|--------|--------|--------|--------|
//   pieces         edge|     direct or bounce     |edge|
//
// An edge is a page that the request covers in part. A read moves the page through a bounce buffer.
// A write gives the request's bytes to the page cache, which changes no others, and then writes the
// page back: so writes of disjoint bytes never meet, whoever makes them. The pages between the
// edges are moved in place if the memory is aligned, else through the bounce buffer.
#pragma once

#include <spillway/aio/file.h>
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "request.h"

namespace spillway::aio {

// Size of a bounce buffer. File refuses direct I/O with alignments above 64 KiB.
inline constexpr std::uint32_t kBounceBytes = 256 << 10;

enum class Route : std::uint8_t {
  kDirect,     // in place
  kBounce,     // through a bounce buffer
  kEdge,       // the same, of one page that a read covers in part
  kPageCache,  // in place, the bytes of one page that a write covers in part
};

struct Piece {
  Route route = Route::kDirect;
  std::uint64_t offset = 0;      // of the operation in the file; aligned where that is needed
  std::uint32_t size_bytes = 0;  // of the operation
  std::uint32_t skip_bytes = 0;  // of the operation's first bytes, not the request's
  std::uint32_t keep_bytes = 0;  // the request's bytes after them
  std::byte* data = nullptr;     // the request's memory for keep_bytes
};

inline bool needs_bounce(const Piece& piece) {
  return piece.route == Route::kBounce || piece.route == Route::kEdge;
}

// Returns what whole blocks of direct I/O are multiples of, in the file and in memory.
inline std::uint32_t block_alignment(const File& file) {
  return std::max(file.memory_alignment(), file.offset_alignment());
}

// Cuts the piece of `request` that starts at file offset `from`. REQUIRES: from < request.end().
inline Piece cut_piece(const PendingRequest& request, std::uint64_t from,
                       std::uint32_t block_size_bytes) {
  const std::uint64_t alignment = block_alignment(request.file);
  const std::uint64_t end = request.end();
  const std::uint64_t block = from & ~(alignment - 1);
  Piece piece;
  piece.data = request.data + (from - request.offset);
  if (block < from || end - block < alignment) {
    piece.keep_bytes = static_cast<std::uint32_t>(std::min(end, block + alignment) - from);
    if (request.direction == Direction::kWrite) {
      piece.route = Route::kPageCache;
      piece.offset = from;
      piece.size_bytes = piece.keep_bytes;
      return piece;
    }
    piece.route = Route::kEdge;
    piece.offset = block;
    piece.size_bytes = static_cast<std::uint32_t>(alignment);
    piece.skip_bytes = static_cast<std::uint32_t>(from - block);
    return piece;
  }
  const std::uint64_t whole = (end & ~(alignment - 1)) - from;
  const bool in_place =
      reinterpret_cast<std::uintptr_t>(piece.data) % request.file.memory_alignment() == 0;
  // A block_size below the alignment is raised to it.
  std::uint64_t most = std::max<std::uint64_t>(block_size_bytes & ~(alignment - 1), alignment);
  if (!in_place) most = std::min<std::uint64_t>(most, kBounceBytes);
  piece.route = in_place ? Route::kDirect : Route::kBounce;
  piece.offset = from;
  piece.size_bytes = static_cast<std::uint32_t>(std::min(whole, most));
  piece.keep_bytes = piece.size_bytes;
  return piece;
}

}  // namespace spillway::aio
