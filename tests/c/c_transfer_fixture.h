// Shared by the tests of transfers through the C interface: a store of eight tiles with three
// planes, and bytes that tell where they belong.
#pragma once

#include "c_fixture.h"

namespace spillway {

template <typename Base>
class CTransferFixture : public Base {
 protected:
  static constexpr std::uint32_t kTiles = 8;
  static constexpr std::uint64_t kElements = 16 << 10;  // of a tile
  static constexpr std::size_t kPlaneBytes = 16 << 10;
  static constexpr std::size_t kTileBytes = 3 * kPlaneBytes;

  void SetUp() override {
    Base::SetUp();
    const spillway_plane planes[] = {{"a", 1, 1}, {"b", 1, 1}, {"c", 1, 1}};
    const std::string directory = this->scratch_.path().string();
    const char* const directories[] = {directory.c_str()};
    auto options = zeroed<spillway_store_options>();
    options.planes = planes;
    options.plane_count = 3;
    options.directories = directories;
    options.directory_count = 1;
    options.element_count = kTiles * kElements;
    options.tile_elements = kElements;
    ASSERT_OK(spillway_store_create(this->engine_, &options, &store_));
  }
  void TearDown() override {
    if (store_ != nullptr) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(store_));
    }
    Base::TearDown();
  }

  static spillway_tile_io io_of_tile(std::uint32_t tile, spillway_lease* lease,
                                     std::uint32_t first_plane = 0, std::uint32_t plane_count = 0) {
    auto io = zeroed<spillway_tile_io>();
    io.tile = tile;
    io.first_plane = first_plane;
    io.plane_count = plane_count;
    io.lease = lease;
    return io;
  }
  template <typename Call>
  void start(Call call, const spillway_tile_io& io, spillway_request** request) {
    ASSERT_OK(call(store_, &io, request));
  }

  static unsigned char byte_of(unsigned seed, std::uint32_t plane, std::size_t at) {
    return static_cast<unsigned char>(seed * 31 + plane * 101 + at * 7 + at / 251);
  }
  // Fills the start of the lease with the planes as a transfer of them has it.
  static void fill_planes(spillway_lease* lease, unsigned seed, std::uint32_t first,
                          std::uint32_t count) {
    unsigned char* const bytes = Base::memory_of(lease);
    for (std::size_t i = 0; i < count * kPlaneBytes; ++i) {
      const auto plane = static_cast<std::uint32_t>(first + i / kPlaneBytes);
      bytes[i] = byte_of(seed, plane, i % kPlaneBytes);
    }
  }
  static void fill(spillway_lease* lease, unsigned seed) { fill_planes(lease, seed, 0, 3); }
  // Of a lease that has all planes of a tile.
  static void expect_planes(spillway_lease* lease, unsigned seed, std::uint32_t first,
                            std::uint32_t count) {
    const unsigned char* const bytes = Base::memory_of(lease);
    for (std::uint32_t plane = first; plane < first + count; ++plane) {
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < kPlaneBytes; ++i) {
        wrong += bytes[plane * kPlaneBytes + i] != byte_of(seed, plane, i);
      }
      EXPECT_EQ(wrong, 0u) << "bytes of plane " << plane << ", not of " << seed;
    }
  }
  void write_tile(std::uint32_t tile, spillway_lease* lease, unsigned seed) {
    fill(lease, seed);
    ASSERT_OK(spillway_store_write(store_, tile, lease));
  }

  spillway_store* store_ = nullptr;
};

}  // namespace spillway
