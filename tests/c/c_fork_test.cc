// A forked child that uses its parent's handles gets a status at once, and makes objects of its
// own.
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "c_fixture.h"
#include "support/child.h"

namespace spillway {
namespace {

constexpr unsigned kLimit_s = 10;

class CFork : public CFixture {
 protected:
  // What is wrong with a call in the child; empty if nothing is.
  std::string wrong(spillway_status status, const char* what) const {
    const std::string expected =
        "was made in process " + std::to_string(parent_) + "; a forked child cannot use it";
    if (status != SPILLWAY_BAD_HANDLE) {
      return std::string(what) + ": " + spillway_status_name(status);
    }
    return last_detail().find(expected) != std::string::npos ? "" : what + (": " + last_detail());
  }
  // Every call that takes a handle, in order, up to the first that is wrong.
  std::string use_all(spillway_store* store, spillway_lease* held, spillway_request* request) {
    const char* text = nullptr;
    std::size_t count = 0;
    void* memory = nullptr;
    int done = 0;
    spillway_lease* lease = nullptr;
    spillway_request* other = nullptr;
    auto stats = zeroed<spillway_engine_stats>();
    auto info = zeroed<spillway_file_info>();
    auto io = io_of(held, 4096);
    const std::function<std::string()> calls[] = {
        [&] { return wrong(spillway_engine_choice(engine_, &text), "engine_choice"); },
        [&] { return wrong(spillway_engine_get_stats(engine_, &stats), "engine_get_stats"); },
        [&] { return wrong(spillway_pool_available(pool_, &count), "pool_available"); },
        [&] { return wrong(spillway_lease_acquire(pool_, -1, &lease), "lease_acquire"); },
        [&] { return wrong(spillway_lease_memory(held, &memory, &count), "lease_memory"); },
        [&] { return wrong(spillway_file_get_info(file_, &info), "file_get_info"); },
        [&] { return wrong(spillway_file_sync(file_), "file_sync"); },
        [&] { return wrong(spillway_file_remove(file_), "file_remove"); },
        [&] { return wrong(spillway_read(engine_, &io, &other), "read"); },
        [&] { return wrong(spillway_write(engine_, &io, &other), "write"); },
        [&] { return wrong(spillway_request_done(request, &done), "request_done"); },
        [&] { return wrong(spillway_cancel(request), "cancel"); },
        [&] { return wrong(spillway_wait(request, -1, &count), "wait"); },
        [&] { return wrong(spillway_store_read(store, 0, held), "store_read"); },
        [&] { return wrong(spillway_store_write(store, 0, held), "store_write"); },
        [&] { return wrong(spillway_store_destroy(store), "store_destroy"); },
        [&] { return wrong(spillway_lease_release(held), "lease_release"); },
        [&] { return wrong(spillway_file_close(file_), "file_close"); },
        [&] { return wrong(spillway_pool_destroy(pool_), "pool_destroy"); },
        [&] { return wrong(spillway_engine_destroy(engine_), "engine_destroy"); },
    };
    for (const auto& call : calls) {
      if (const std::string problem = call(); !problem.empty()) return problem;
    }
    return {};
  }
  void make_store(spillway_store** store) {
    auto options = zeroed<spillway_store_options>();
    const spillway_plane plane = {"value", 4, 1};
    const std::string directory = scratch_.path().string();
    const char* const directories[] = {directory.c_str()};
    options.planes = &plane;
    options.plane_count = 1;
    options.directories = directories;
    options.directory_count = 1;
    options.element_count = 1000;
    options.tile_elements = 1000;
    ASSERT_OK(spillway_store_create(engine_, &options, store));
  }

  const pid_t parent_ = ::getpid();
};
INSTANTIATE_TEST_SUITE_P(Backends, CFork,
                         ::testing::Values(SPILLWAY_BACKEND_IO_URING, SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CFork, EveryCallIsAStatusAndTheParentGoesOn) {
  make_file(4 * kBuffer);
  spillway_store* store = nullptr;
  make_store(&store);
  spillway_lease* held = lease();
  spillway_lease* moved = lease();
  auto io = io_of(moved, kBuffer);
  spillway_request* request = nullptr;
  ASSERT_OK(spillway_read(engine_, &io, &request));
  EXPECT_EQ(in_child([&] { return use_all(store, held, request); }, kLimit_s), "");
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(request, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_write(store, 0, held));
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(store));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(held));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(moved));
}

// The table of handles is the whole process's: a thread of the parent is inside of its lock at some
// fork.
TEST_P(CFork, NeverWaitsForAThreadThatHasTheTable) {
  make_file(kBuffer);
  std::atomic<bool> over{false};
  std::thread busy([&] {
    std::size_t count = 0;
    while (!over) EXPECT_EQ(spillway_pool_available(pool_, &count), SPILLWAY_OK);
  });
  for (int i = 0; i < 100; ++i) {
    std::size_t count = 0;
    const std::string problem = in_child(
        [&] { return wrong(spillway_pool_available(pool_, &count), "pool_available"); }, kLimit_s);
    EXPECT_EQ(problem, "");
    if (!problem.empty()) break;
  }
  over = true;
  busy.join();
}

TEST_P(CFork, AChildMakesObjectsOfItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer knows no threads of a forked child";
#endif
  const auto body = [&]() -> std::string {
    auto options = zeroed<spillway_engine_options>();
    options.backend = GetParam();
    spillway_engine* own = nullptr;
    auto pool = zeroed<spillway_pool_options>();
    pool.buffer_bytes = 4096;
    pool.buffer_count = 1;
    spillway_pool* own_pool = nullptr;
    if (spillway_engine_create(&options, &own) != SPILLWAY_OK ||
        spillway_pool_create(own, &pool, &own_pool) != SPILLWAY_OK) {
      return last_detail();
    }
    engine_ = own;
    pool_ = own_pool;
    make_file(4096);
    spillway_lease* const memory = lease();
    auto io = io_of(memory, 4096);
    spillway_request* request = nullptr;
    if (spillway_write(own, &io, &request) != SPILLWAY_OK ||
        spillway_wait(request, -1, nullptr) != SPILLWAY_OK ||
        spillway_lease_release(memory) != SPILLWAY_OK ||
        spillway_file_close(file_) != SPILLWAY_OK ||
        spillway_pool_destroy(own_pool) != SPILLWAY_OK ||
        spillway_engine_destroy(own) != SPILLWAY_OK) {
      return spillway_last_error()->message;
    }
    return {};
  };
  EXPECT_EQ(in_child(body, kLimit_s), "");
}

}  // namespace
}  // namespace spillway
