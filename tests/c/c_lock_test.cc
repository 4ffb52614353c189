// Locks on directories that several stores share, through the C interface.
#include "c_fixture.h"

namespace spillway {
namespace {

class CLock : public CFixture {
 protected:
  spillway_status create(const char* name, const std::vector<spillway_lock*>& locks,
                         spillway_store** store) {
    const spillway_plane plane{"bytes", 1, 1};
    const std::string directory = scratch_.path().string();
    const char* const directories[] = {directory.c_str()};
    auto options = zeroed<spillway_store_options>();
    options.planes = &plane;
    options.plane_count = 1;
    options.directories = directories;
    options.directory_count = 1;
    options.element_count = options.tile_elements = 4096;
    options.name = name;
    options.locks = locks.data();
    options.lock_count = locks.size();
    return spillway_store_create(engine_, &options, store);
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, CLock, ::testing::Values(SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CLock, IsSharedByTheStoresOfADirectory) {
  spillway_lock* lock = nullptr;
  ASSERT_OK(spillway_lock_acquire(scratch_.path().c_str(), &lock));
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "spillway.lock"));
  spillway_store* stores[2] = {};
  ASSERT_OK(create("first", {lock}, &stores[0]));
  ASSERT_OK(create("second", {lock}, &stores[1]));
  spillway_store* same_name = nullptr;
  EXPECT_STATUS(SPILLWAY_BUSY, create("second", {lock}, &same_name));
  EXPECT_EQ(same_name, nullptr);
  for (spillway_store* store : stores) {
    EXPECT_STATUS(SPILLWAY_IN_USE, spillway_lock_release(lock));
    EXPECT_STATUS(SPILLWAY_OK, spillway_store_destroy(store));
  }
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "spillway.lock")) << "the program holds it";
  EXPECT_STATUS(SPILLWAY_OK, spillway_lock_release(lock));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_lock_release(lock));
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
}

TEST_P(CLock, ThatMakesNoSense) {
  spillway_lock* lock = nullptr;
  EXPECT_STATUS(SPILLWAY_NOT_FOUND, spillway_lock_acquire("/nowhere/at/all", &lock));
  EXPECT_EQ(lock, nullptr);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_lock_acquire(nullptr, &lock));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_lock_acquire(scratch_.path().c_str(), nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_lock_release(nullptr));
  spillway_store* store = nullptr;
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, create("first", {nullptr}, &store));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE,
                create("first", {reinterpret_cast<spillway_lock*>(engine_)}, &store));
  auto options = zeroed<spillway_store_options>();
  const spillway_plane plane{"bytes", 1, 1};
  const std::string directory = scratch_.path().string();
  const char* const directories[] = {directory.c_str()};
  options.planes = &plane;
  options.plane_count = options.directory_count = 1;
  options.directories = directories;
  options.element_count = options.tile_elements = 4096;
  options.lock_count = 1;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_create(engine_, &options, &store));
  EXPECT_EQ(store, nullptr);
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
}

}  // namespace
}  // namespace spillway
