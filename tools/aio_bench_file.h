// The test file: incompressible data of which every page says where and in which pass it was
// written, so that bytes from the wrong place, or from an earlier pass, are noticed.
#pragma once

#include <spillway/aio/file.h>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace spillway::aio_bench {

// Page p of pass g: its first word is a hash of (p, g), the rest repeats every kPeriodBytes of the
// file. So a buffer filled once serves every request that starts at a multiple of kPeriodBytes:
// only one word a page changes, which costs next to nothing beside the transfer.
class Pattern {
 public:
  static constexpr std::size_t kPageBytes = 4096;
  static constexpr std::size_t kPeriodBytes = std::size_t{4} << 20;

  Pattern();
  // What the file holds from a multiple of kPeriodBytes on, but for the stamps.
  void fill(std::span<std::byte> data) const;
  static void stamp(std::span<std::byte> data, std::uint64_t offset, std::uint64_t pass);
  // Offset in the file of the first page with a wrong stamp.
  static std::optional<std::uint64_t> wrong_stamp(std::span<const std::byte> data,
                                                  std::uint64_t offset, std::uint64_t pass);
  // Offset in the file of the first page of which any byte is wrong.
  std::optional<std::uint64_t> wrong_page(std::span<const std::byte> data, std::uint64_t offset,
                                          std::uint64_t pass) const;

 private:
  std::vector<std::uint64_t> body_;
};

struct TestFile {
  aio::File file;
  std::uint64_t size_bytes = 0;
  std::uint64_t pass = 0;  // the pass that wrote what the file holds
  Pattern pattern = {};

  // A file with no name, its space allocated, no data in it. It is gone with the process.
  static Result<TestFile> create(const std::filesystem::path& directory, std::uint64_t size_bytes);
};

}  // namespace spillway::aio_bench
