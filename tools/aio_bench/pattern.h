// Pattern: the contents of the test file: incompressible data, with the place and the pass in every
// page, so that bytes from a wrong place or an earlier pass are detected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace spillway::aio_bench {

// Page p of pass g: its first word is a hash of (p, g), the rest repeats every kPeriodBytes of the
// file. So a buffer that is filled once serves every request at the same offset within a period:
// only one word per page changes, which costs next to nothing beside the transfer.
class Pattern {
 public:
  static constexpr std::size_t kPageBytes = 4096;
  static constexpr std::size_t kPeriodBytes = std::size_t{4} << 20;

  Pattern();
  // What the file holds from a multiple of kPeriodBytes on, but for the stamps.
  void fill(std::span<std::byte> data) const;
  static void stamp(std::span<std::byte> data, std::uint64_t offset, std::uint64_t pass);

  // Of the pages that `data`, read at `offset`, holds: the first that is wrong. `passes` says for
  // each which pass wrote it.
  using Passes = std::span<const std::uint32_t>;
  static std::optional<std::uint64_t> wrong_stamp(std::span<const std::byte> data,
                                                  std::uint64_t offset, Passes passes);
  // As wrong_stamp, but looks at every byte.
  std::optional<std::uint64_t> wrong_page(std::span<const std::byte> data, std::uint64_t offset,
                                          Passes passes) const;

 private:
  std::vector<std::uint64_t> body_;
};

}  // namespace spillway::aio_bench
