// Checksums: what the blocks of one stored tile must hash to, kept in RAM apart from the data.
//
// Each kChecksumBlockBytes of a plane has one XXH3 value over its bytes without the padding, seeded
// with tile, plane, block and generation. As the value of the last write is here and not beside the
// bytes, a lost write (the old bytes come back) and a misdirected one (another block's bytes come
// back) differ from it just as flipped bits do. The one thing that passes is the same content once
// more for the same block, and that is no harm: those are the right bytes. A damaged block passes
// by chance once in 2^64. Threads: different planes may be used at the same time.
#pragma once

#include <spillway/swapper/tier.h>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace spillway::swapper {

// Which bytes a checksum is of.
struct PlaneIdentity {
  TileId tile = 0;
  std::uint32_t plane = 0;
  std::uint32_t generation = 0;
};

class Checksums {
 public:
  // For tiles of `elements`; knows nothing until record() is called.
  Checksums(const Layout& layout, std::uint64_t elements);

  void record(const PlaneIdentity& identity, const std::byte* data);
  // The first block of the plane whose bytes are not those recorded.
  std::optional<std::size_t> first_mismatch(const PlaneIdentity& identity,
                                            const std::byte* data) const;
  std::size_t memory_bytes() const noexcept;

 private:
  struct PlaneSums {
    std::size_t plane_bytes = 0;
    std::vector<std::uint64_t> sums;  // one a block
  };
  std::vector<PlaneSums> planes_;
};

}  // namespace spillway::swapper
