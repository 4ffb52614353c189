// Whatever a C program does wrong is a status with a reason, and leaves everything as it was.
#include <limits>

#include "c_fixture.h"

namespace spillway {
namespace {

class CMisuse : public CFixture {};
INSTANTIATE_TEST_SUITE_P(Backends, CMisuse,
                         ::testing::Values(SPILLWAY_BACKEND_IO_URING, SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CMisuse, HandlesThatAreNone) {
  make_file(kBuffer);
  int done = 0;
  std::size_t count = 0;
  const char* text = nullptr;
  // NULL, of another kind, made up.
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_engine_choice(nullptr, &text));
  EXPECT_NE(last_detail().find("engine is NULL"), std::string::npos) << last_detail();
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE,
                spillway_pool_available(reinterpret_cast<spillway_pool*>(engine_), &count));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE,
                spillway_engine_destroy(reinterpret_cast<spillway_engine*>(file_)));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE,
                spillway_request_done(reinterpret_cast<spillway_request*>(&count), &done));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_store_destroy(nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_wait(nullptr, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_cancel(nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_file_sync(nullptr));
}

TEST_P(CMisuse, DestroyedHandlesStayDestroyed) {
  spillway_lease* const old = lease();
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(old));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_lease_release(old));
  // Also when its place in the table has a new owner, and again.
  for (int i = 0; i < 100; ++i) {
    spillway_lease* const next = lease();
    EXPECT_NE(next, old);
    void* memory = nullptr;
    EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_lease_memory(old, &memory, nullptr));
    EXPECT_EQ(memory, nullptr);
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(next));
  }
}

TEST_P(CMisuse, ParentsOutliveTheirChildren) {
  make_file(kBuffer);
  spillway_lease* memory = lease();
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_engine_destroy(engine_));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_pool_destroy(pool_));
  auto io = io_of(memory, kBuffer);
  spillway_request* write = nullptr;
  ASSERT_OK(spillway_write(engine_, &io, &write));
  // Until it was waited for, done or not.
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_file_close(file_));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_lease_release(memory));
  void* address = nullptr;
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_lease_memory(memory, &address, nullptr));
  spillway_request* second = nullptr;
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_write(engine_, &io, &second));
  EXPECT_EQ(second, nullptr);
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(write, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_wait(write, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_cancel(write));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CMisuse, RequestsThatMakeNoSense) {
  make_file(kBuffer);
  spillway_lease* memory = lease();
  spillway_request* request = nullptr;
  unsigned char own[64] = {};
  const auto refused = [&](spillway_io io, const char* why) {
    EXPECT_STATUS(SPILLWAY_MISUSE, spillway_read(engine_, &io, &request));
    EXPECT_NE(last_detail().find(why), std::string::npos) << last_detail();
    EXPECT_EQ(request, nullptr);
  };
  refused(io_of(memory, kBuffer + 1), "do not fit into a lease of 262144");
  auto io = io_of(memory, 2);
  io.lease_offset = kBuffer - 1;
  refused(io, "do not fit");
  io.lease_offset = std::numeric_limits<std::size_t>::max();
  refused(io, "do not fit");
  io = io_of(memory, 64);
  io.memory = own;
  refused(io, "not both");
  refused(io_of(nullptr, 1), "neither");
  refused(io_of(memory, 1, INT64_MAX), "no file has bytes");
  refused(io_of(memory, 1, UINT64_MAX), "no file has bytes");
  io = io_of(nullptr, 64);
  io.memory = own;
  io.deadline_ms = 1000;
  refused(io, "a deadline needs a lease");
  io = io_of(memory, 64);
  io.size = 0;
  refused(io, "`size` is 0");
  io.size = sizeof io - 1;
  refused(io, "sizeof");
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_read(engine_, nullptr, &request));
  io = io_of(memory, 64);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_read(engine_, &io, nullptr));
  io.file = nullptr;
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_read(engine_, &io, &request));

  spillway_file* read_only = nullptr;
  ASSERT_OK(spillway_file_open((scratch_ / "file").c_str(), nullptr, &read_only));
  io = io_of(memory, 64);
  io.file = read_only;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_write(engine_, &io, &request));
  EXPECT_NE(last_detail().find("not opened writable"), std::string::npos);
  EXPECT_STATUS(SPILLWAY_OK, spillway_file_close(read_only));

  io = io_of(memory, kBuffer);  // and the lease still works
  ASSERT_OK(spillway_read(engine_, &io, &request));
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(request, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CMisuse, AllBuffersOut) {
  std::vector<spillway_lease*> leases;
  for (int i = 0; i < 4; ++i) leases.push_back(lease());
  spillway_lease* more = nullptr;
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_lease_acquire(pool_, 0, &more));
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_lease_acquire(pool_, 20, &more));
  EXPECT_EQ(more, nullptr);
  std::size_t free = 9;
  EXPECT_STATUS(SPILLWAY_OK, spillway_pool_available(pool_, &free));
  EXPECT_EQ(free, 0u);
  for (spillway_lease* one : leases) EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(one));
}

TEST(COptions, ThatMakeNoSense) {
  spillway_engine* engine = nullptr;
  const auto refused = [&](spillway_status status, auto change) {
    auto options = zeroed<spillway_engine_options>();
    change(options);
    EXPECT_STATUS(status, spillway_engine_create(&options, &engine));
    EXPECT_EQ(engine, nullptr);
  };
  refused(SPILLWAY_MISUSE, [](auto& options) { options.size = 0; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.size = std::size_t{1} << 40; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.backend = 7; });
  refused(SPILLWAY_INVALID, [](auto& options) { options.block_size_bytes = 4095; });
  refused(SPILLWAY_INVALID, [](auto& options) { options.queue_depth = 1u << 30; });
  refused(SPILLWAY_INVALID, [](auto& options) { options.thread_count = 1000; });
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_engine_create(nullptr, nullptr));

  spillway_file* file = nullptr;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_file_open(nullptr, nullptr, &file));
  auto create = zeroed<spillway_create_options>();
  create.size_bytes = UINT64_MAX;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_file_create("nothing", &create, &file));
}

TEST(COptions, OfALaterVersion) {
  struct Later {
    spillway_engine_options known;
    std::uint64_t unknown;
  } later{};
  later.known.size = sizeof later;
  spillway_engine* engine = nullptr;
  ASSERT_OK(spillway_engine_create(&later.known, &engine));  // the unknown field is at its default
  EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine));
  later.unknown = 1;
  EXPECT_STATUS(SPILLWAY_UNSUPPORTED, spillway_engine_create(&later.known, &engine));
}

TEST(COptions, ThatNoMemoryCanHold) {
  spillway_pool* pool = nullptr;
  auto options = zeroed<spillway_pool_options>();
  const auto refused = [&](spillway_status status, std::size_t bytes, std::size_t count) {
    options.buffer_bytes = bytes;
    options.buffer_count = count;
    EXPECT_STATUS(status, spillway_pool_create(nullptr, &options, &pool)) << bytes << " " << count;
    EXPECT_EQ(pool, nullptr);
  };
  refused(SPILLWAY_MISUSE, 0, 4);
  refused(SPILLWAY_MISUSE, 4096, 0);
  refused(SPILLWAY_NO_MEMORY, SIZE_MAX, 1);
  refused(SPILLWAY_NO_MEMORY, SIZE_MAX / 2, SIZE_MAX / 2);
  refused(SPILLWAY_NO_MEMORY, std::size_t{1} << 50, 1);
  refused(SPILLWAY_NO_MEMORY, 1, SIZE_MAX / 8192);
  options.registration = SPILLWAY_REQUIRED;
  refused(SPILLWAY_MISUSE, 4096, 1);  // with what engine?
  options.registration = SPILLWAY_AUTO;
  options.lock = -1;
  refused(SPILLWAY_MISUSE, 4096, 1);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_pool_create(nullptr, nullptr, &pool));
}

TEST(CError, IsOfTheThreadAndStays) {
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_file_close(nullptr));
  const spillway_error* error = spillway_last_error();
  EXPECT_EQ(error->status, SPILLWAY_BAD_HANDLE);
  spillway_engine* engine = nullptr;
  ASSERT_OK(spillway_engine_create(nullptr, &engine));
  ASSERT_OK(spillway_engine_destroy(engine));
  EXPECT_EQ(spillway_last_error()->status, SPILLWAY_BAD_HANDLE) << "success leaves it alone";
  EXPECT_STREQ(error->message, "close file: the handle of the file is NULL");
}

}  // namespace
}  // namespace spillway
