// Reads and writes through the C interface come back byte for byte, whatever the memory.
#include <algorithm>
#include <thread>

#include "c_fixture.h"

namespace spillway {
namespace {

class CIo : public CFixture {};
INSTANTIATE_TEST_SUITE_P(Backends, CIo,
                         ::testing::Values(SPILLWAY_BACKEND_IO_URING, SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CIo, WhatWasWrittenFromALeaseIsReadIntoMemoryOfTheCallers) {
  make_file(3 * kBuffer);
  spillway_lease* out = lease();
  unsigned char* bytes = memory_of(out);
  for (std::size_t i = 0; i < kBuffer; ++i) bytes[i] = static_cast<unsigned char>(i * 7 + i / 251);
  const std::vector<unsigned char> expected(bytes, bytes + kBuffer);

  spillway_request* writes[3] = {};
  auto io = io_of(out, kBuffer, kBuffer);
  ASSERT_OK(spillway_write(engine_, &io, &writes[0]));
  std::size_t moved = 0;
  ASSERT_OK(spillway_wait(writes[0], -1, &moved));
  EXPECT_EQ(moved, kBuffer);
  EXPECT_EQ(0, std::memcmp(memory_of(out), expected.data(), kBuffer)) << "the lease is as it was";

  // Unaligned in all ways.
  std::vector<unsigned char> in(kBuffer, 0xee);
  io = io_of(nullptr, 100'001, kBuffer + 513);
  io.memory = in.data() + 3;
  spillway_request* read = nullptr;
  ASSERT_OK(spillway_read(engine_, &io, &read));
  ASSERT_OK(spillway_wait(read, 60'000, &moved));
  EXPECT_EQ(moved, 100'001u);
  EXPECT_EQ(0, std::memcmp(in.data() + 3, expected.data() + 513, 100'001));
  EXPECT_EQ(in[2], 0xee);
  EXPECT_EQ(in[3 + 100'001], 0xee);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(out));

  auto stats = zeroed<spillway_engine_stats>();
  ASSERT_OK(spillway_engine_get_stats(engine_, &stats));
  EXPECT_GE(stats.written_bytes, kBuffer);
  EXPECT_GT(stats.read_bytes, 100'000u);
}

TEST_P(CIo, ManyRequestsOfManyThreadsAtOnce) {
  constexpr std::size_t kBlock = 16 << 10;
  constexpr std::size_t kThreads = 4, kRounds = 25, kInFlight = 8;
  make_file(kThreads * kInFlight * kBlock);
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread] {
      std::vector<unsigned char> memory(kInFlight * kBlock), back(kInFlight * kBlock);
      for (std::size_t round = 0; round < kRounds; ++round) {
        for (std::size_t i = 0; i < memory.size(); ++i) {
          memory[i] = static_cast<unsigned char>(i / kBlock + thread * 16 + round * 3 + i);
        }
        for (bool write : {true, false}) {
          spillway_request* requests[kInFlight] = {};
          for (std::size_t i = 0; i < kInFlight; ++i) {
            auto io = io_of(nullptr, kBlock, (thread * kInFlight + i) * kBlock);
            io.memory = (write ? memory.data() : back.data()) + i * kBlock;
            io.urgent = i % 2;
            ASSERT_OK((write ? spillway_write : spillway_read)(engine_, &io, &requests[i]));
          }
          for (spillway_request* request : requests) ASSERT_OK(spillway_wait(request, -1, nullptr));
        }
        ASSERT_EQ(memory, back);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(CIo, AReadPastTheEndIsShort) {
  make_file(kBuffer);
  spillway_lease* memory = lease();
  auto io = io_of(memory, kBuffer, kBuffer / 2);
  spillway_request* read = nullptr;
  ASSERT_OK(spillway_read(engine_, &io, &read));
  std::size_t moved = 0;
  EXPECT_STATUS(SPILLWAY_SHORT_TRANSFER, spillway_wait(read, -1, &moved));
  EXPECT_EQ(moved, kBuffer / 2);
  const spillway_error* error = spillway_last_error();
  EXPECT_EQ(error->status, SPILLWAY_SHORT_TRANSFER);
  EXPECT_STREQ(error->operation, "read");
  EXPECT_EQ(error->path, (scratch_ / "file").string());
  EXPECT_EQ(error->offset, kBuffer / 2);
  EXPECT_EQ(error->wanted, kBuffer);
  EXPECT_EQ(error->got, kBuffer / 2);
  EXPECT_NE(std::string(error->message).find(error->path), std::string::npos);
  memory_of(memory);  // usable again
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

// One block is moved by this thread, more than one and parts of pages by the engine's.
TEST_P(CIo, OneAtATimeNeedsNoRequest) {
  make_file(kBuffer);
  spillway_lease* memory = lease();
  for (const std::size_t size : {std::size_t{4096}, std::size_t{64} << 10, kBuffer, kBuffer - 7}) {
    auto io = io_of(memory, size);
    std::memset(memory_of(memory), static_cast<int>(size % 251), kBuffer);
    std::size_t moved = 0;
    ASSERT_OK(spillway_write_and_wait(engine_, &io, &moved));
    EXPECT_EQ(moved, size);
    std::memset(memory_of(memory), 0, kBuffer);
    ASSERT_OK(spillway_read_and_wait(engine_, &io, nullptr));
    EXPECT_EQ(memory_of(memory)[0], size % 251);
    EXPECT_EQ(memory_of(memory)[size - 1], size % 251);
  }
  std::vector<unsigned char> own(4096, 1);
  auto io = io_of(nullptr, own.size());
  io.memory = own.data();
  ASSERT_OK(spillway_read_and_wait(engine_, &io, nullptr));
  EXPECT_EQ(own[0], (kBuffer - 7) % 251);
  std::size_t moved = 1;
  auto past = io_of(memory, kBuffer, kBuffer / 2);
  EXPECT_STATUS(SPILLWAY_SHORT_TRANSFER, spillway_read_and_wait(engine_, &past, &moved));
  EXPECT_EQ(moved, kBuffer / 2);
  memory_of(memory);  // usable again
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_write_and_wait(engine_, nullptr, &moved));
  EXPECT_EQ(moved, 0u);
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_read_and_wait(nullptr, &io, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CIo, ACancelledRequestEndsAndGivesItsLeaseBack) {
  make_file(kBuffer);
  for (int round = 0; round < 20; ++round) {
    spillway_lease* memory = lease();
    auto io = io_of(memory, kBuffer);
    spillway_request* write = nullptr;
    ASSERT_OK(spillway_write(engine_, &io, &write));
    std::thread other([write] { spillway_cancel(write); });
    const spillway_status ended = spillway_wait(write, -1, nullptr);
    other.join();  // on a handle that may be gone: a status, no more
    EXPECT_TRUE(ended == SPILLWAY_OK || ended == SPILLWAY_CANCELLED) << ended;
    memory_of(memory);
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  }
}

TEST_P(CIo, ADeadlineThatHasRoomIsKept) {
  make_file(kBuffer);
  spillway_lease* memory = lease();
  auto io = io_of(memory, kBuffer);
  io.deadline_ms = 60'000;
  spillway_request* read = nullptr;
  ASSERT_OK(spillway_read(engine_, &io, &read));
  int done = 0;
  while (done == 0) ASSERT_OK(spillway_request_done(read, &done));
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(read, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CIo, FilesAreOpenedAskedSyncedAndRemoved) {
  make_file(12'345);
  auto info = zeroed<spillway_file_info>();
  ASSERT_OK(spillway_file_get_info(file_, &info));
  EXPECT_EQ(info.size_bytes, 12'345u);
  EXPECT_GE(info.memory_alignment, 1u);
  EXPECT_STATUS(SPILLWAY_OK, spillway_file_sync(file_));
  const std::string path = (scratch_ / "file").string();
  spillway_file* second = nullptr;
  EXPECT_STATUS(SPILLWAY_BUSY, spillway_file_create(path.c_str(), nullptr, &second));
  EXPECT_EQ(second, nullptr);
  EXPECT_STATUS(SPILLWAY_OK, spillway_file_open(path.c_str(), nullptr, &second));
  EXPECT_STATUS(SPILLWAY_OK, spillway_file_remove(second));
  EXPECT_STATUS(SPILLWAY_OK, spillway_file_close(second));
  EXPECT_STATUS(SPILLWAY_NOT_FOUND, spillway_file_open(path.c_str(), nullptr, &second));
  EXPECT_STREQ(spillway_last_error()->path, path.c_str());
}

TEST(CVersion, IsThatOfTheHeaders) {
  EXPECT_EQ(spillway_version(), SPILLWAY_VERSION);
  EXPECT_STREQ(spillway_version_string(), SPILLWAY_VERSION_STRING);
  EXPECT_GE(SPILLWAY_VERSION, SPILLWAY_MAKE_VERSION(0, 1, 0));
  EXPECT_STREQ(spillway_status_name(SPILLWAY_WAIT_TIMEOUT), "SPILLWAY_WAIT_TIMEOUT");
  EXPECT_STREQ(spillway_status_name(static_cast<spillway_status>(99)), "unknown status");
}

TEST(CLog, SaysWhyThereIsNoDirectIoAndOnlyWhenAsked) {
  Scratch scratch;
  spillway_engine* engine = nullptr;
  ASSERT_OK(spillway_engine_create(nullptr, &engine));
  std::vector<std::string> lines;
  const spillway_plane plane{"bytes", 1, 1};
  const std::string directory = scratch.path().string();
  const char* directories[] = {directory.c_str()};
  auto options = zeroed<spillway_store_options>();
  options.planes = &plane;
  options.plane_count = 1;
  options.directories = directories;
  options.directory_count = 1;
  options.element_count = 5000;
  options.tile_elements = 1000;
  options.direct = SPILLWAY_OFF;
  options.log = [](void* context, int warning, const char* line) {
    EXPECT_NE(warning, 0);
    static_cast<std::vector<std::string>*>(context)->push_back(line);
  };
  options.log_context = &lines;
  spillway_store* store = nullptr;
  ASSERT_OK(spillway_store_create(engine, &options, &store));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("through the page cache"), std::string::npos) << lines[0];
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(store));
  EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine));
}

}  // namespace
}  // namespace spillway
