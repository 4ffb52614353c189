// TestFile: one file on each drive, used as one, striped like a StripedFile.
//
// The files have no name while they are in use: none is left, however the program ends.
#pragma once

#include <spillway/aio/file.h>
#include <spillway/aio/stripe_map.h>
#include <cstdint>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "pattern.h"

namespace spillway::aio_bench {

class TestFile {
 public:
  // Allocates `size_bytes` (rounded up to whole stripes) and writes nothing yet. `stripe_bytes` is
  // a multiple of Pattern::kPeriodBytes and of every request's size; a request lies in one stripe.
  // `speeds`, one a directory: each gets stripes in proportion.
  static Result<TestFile> create(const std::vector<std::filesystem::path>& directories,
                                 std::uint64_t size_bytes, std::uint32_t stripe_bytes,
                                 const std::vector<double>& speeds);

  std::uint64_t size_bytes() const { return size_bytes_; }
  const aio::StripeMap& stripes() const { return stripes_; }
  const std::vector<aio::File>& files() const { return files_; }

  // Returns the place of a byte of the whole file.
  struct Place {
    const aio::File* file = nullptr;
    std::uint64_t offset = 0;
  };
  Place place_of(std::uint64_t offset) const;

  // Truncates the file to `size_bytes`: a slow drive was not filled in time.
  Result<void> cut_to(std::uint64_t size_bytes);
  // Syncs, so that no pass pays for data of an earlier one in the drive's cache.
  Result<void> sync();

  // Which pass wrote each page, and the number of the next one. REQUIRES: whole pages.
  std::span<std::uint32_t> passes_of(std::uint64_t offset, std::uint64_t size_bytes);
  std::uint32_t next_pass() { return ++last_pass_; }

  // The end of the last pass, where the next one continues: so short passes move the whole file,
  // not only its part in the drive's cache.
  std::uint64_t read_from = 0;
  std::uint64_t write_from = 0;

 private:
  std::uint64_t bytes_of_file(std::size_t index) const;

  TestFile(aio::StripeMap stripes, std::uint64_t size_bytes)
      : stripes_(std::move(stripes)),
        page_passes_(size_bytes / Pattern::kPageBytes),
        size_bytes_(size_bytes) {}

  aio::StripeMap stripes_;
  std::vector<aio::File> files_;
  std::vector<std::uint32_t> page_passes_;
  std::uint64_t size_bytes_ = 0;
  std::uint32_t last_pass_ = 0;
};

}  // namespace spillway::aio_bench
