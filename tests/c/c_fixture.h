// Shared by the tests of the C interface: an engine of either kind, files, a pool.
#pragma once

#include <gtest/gtest.h>
#include <spillway/spillway.h>

#include <cstring>
#include <string>
#include <vector>

#include "support/scratch.h"

namespace spillway {

// Compares a status with the expected one, and tells the reason of another.
#define EXPECT_STATUS(wanted, call)                                            \
  EXPECT_EQ((wanted), (call)) << spillway_status_name((wanted)) << " wanted; " \
                              << spillway_last_error()->message
#define ASSERT_OK(call) ASSERT_EQ(SPILLWAY_OK, (call)) << spillway_last_error()->message

template <typename Options>
Options zeroed() {
  Options options;
  std::memset(&options, 0, sizeof options);
  options.size = sizeof options;
  return options;
}

inline std::string last_detail() { return spillway_last_error()->detail; }

// An engine, a pool of four buffers and a writable file. TearDown expects to destroy them all.
class CFixture : public ::testing::TestWithParam<spillway_backend> {
 protected:
  static constexpr std::size_t kBuffer = 256 << 10;

  void SetUp() override {
    auto options = zeroed<spillway_engine_options>();
    options.backend = GetParam();
    options.block_size_bytes = 64 << 10;
    ASSERT_OK(spillway_engine_create(&options, &engine_));
    auto pool = zeroed<spillway_pool_options>();
    pool.buffer_bytes = kBuffer;
    pool.buffer_count = 4;
    ASSERT_OK(spillway_pool_create(engine_, &pool, &pool_));
  }
  void TearDown() override {
    if (file_ != nullptr) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_file_close(file_));
    }
    if (pool_ != nullptr) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_pool_destroy(pool_));
    }
    if (engine_ != nullptr) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine_));
    }
  }

  void make_file(std::uint64_t size_bytes) {
    auto options = zeroed<spillway_create_options>();
    options.size_bytes = size_bytes;
    ASSERT_OK(spillway_file_create((scratch_ / "file").c_str(), &options, &file_));
  }
  spillway_lease* lease() {
    spillway_lease* lease = nullptr;
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_acquire(pool_, 0, &lease));
    return lease;
  }
  static unsigned char* memory_of(spillway_lease* lease) {
    void* memory = nullptr;
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_memory(lease, &memory, nullptr));
    return static_cast<unsigned char*>(memory);
  }
  spillway_io io_of(spillway_lease* lease, std::size_t size_bytes, std::uint64_t offset = 0) {
    auto io = zeroed<spillway_io>();
    io.file = file_;
    io.lease = lease;
    io.size_bytes = size_bytes;
    io.offset = offset;
    return io;
  }

  Scratch scratch_;
  spillway_engine* engine_ = nullptr;
  spillway_pool* pool_ = nullptr;
  spillway_file* file_ = nullptr;
};

inline std::string backend_name(const ::testing::TestParamInfo<spillway_backend>& info) {
  return info.param == SPILLWAY_BACKEND_IO_URING ? "io_uring" : "threads";
}

}  // namespace spillway
