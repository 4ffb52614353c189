// A fixture with a striped file over directories of a scratch folder, and its expected bytes.
#pragma once

#include <gtest/gtest.h>
#include <spillway/aio/striped_file.h>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "scratch.h"
#include "support/seed.h"

namespace spillway::aio {

using Bytes = std::vector<std::byte>;

class StripedFixture : public testing::Test {
 protected:
  static constexpr std::uint32_t kStripe = 16384;

  explicit StripedFixture(std::uint64_t seed) : random_(test_seed(seed)) {}

  // Returns {"d0", "d1", ...}, and creates missing ones.
  StripedLocation location(std::size_t directories) const {
    StripedLocation where{.directories = {}, .name = "data"};
    for (std::size_t i = 0; i < directories; ++i) {
      where.directories.push_back(scratch_ / ("d" + std::to_string(i)));
      std::filesystem::create_directory(where.directories.back());
    }
    return where;
  }

  // Creates the file on `engines` and fills it with known bytes.
  void create(std::vector<Engine*> engines, std::vector<double> speeds, std::uint64_t size_bytes) {
    auto file =
        StripedFile::create(std::move(engines), location(speeds.size()),
                            {.size_bytes = size_bytes, .stripe_bytes = kStripe, .speeds = speeds});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
    model_ = random_bytes(size_bytes);
    auto written = write(0, model_);
    ASSERT_TRUE(written) << written.error().message();
  }

  Bytes random_bytes(std::size_t count) {
    Bytes bytes(count);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    return bytes;
  }

  // `shift`: where the bytes begin in the Buffer, so that memory is not aligned.
  Result<std::size_t> write(std::uint64_t offset, const Bytes& bytes, std::size_t shift = 0) {
    Buffer buffer = Buffer::allocate(bytes.size() + shift);
    if (!bytes.empty()) std::memcpy(buffer.data() + shift, bytes.data(), bytes.size());
    return file_
        ->write({.offset = offset, .size_bytes = bytes.size(), .buffer_offset = shift},
                std::move(buffer))
        .wait()
        .transferred;
  }

  Result<Bytes> read(std::uint64_t offset, std::size_t size_bytes, std::size_t shift = 0) {
    Completion done =
        file_
            ->read({.offset = offset, .size_bytes = size_bytes, .buffer_offset = shift},
                   Buffer::allocate(size_bytes + shift))
            .wait();
    if (!done.transferred) return tl::unexpected(done.transferred.error());
    EXPECT_EQ(*done.transferred, size_bytes);
    const std::byte* const begin = done.buffer.data() + shift;
    return Bytes(begin, begin + size_bytes);
  }

  Bytes expected(std::uint64_t offset, std::size_t size_bytes) const {
    const auto begin = model_.begin() + static_cast<std::ptrdiff_t>(offset);
    return Bytes(begin, begin + static_cast<std::ptrdiff_t>(size_bytes));
  }

  void expect_contents() {
    auto all = read(0, model_.size());
    ASSERT_TRUE(all) << all.error().message();
    EXPECT_TRUE(*all == model_) << "the file does not hold what was written";
  }

  Scratch scratch_;
  std::mt19937_64 random_;
  std::unique_ptr<Engine> engine_;  // before the files on it
  std::unique_ptr<Engine> second_engine_;
  std::optional<StripedFile> file_;
  Bytes model_;
};

}  // namespace spillway::aio
