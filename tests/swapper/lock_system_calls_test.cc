// What a store and its lock ask of the kernel, and what they do if it refuses. The calls below
// stand in front of libc's, in this program only.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/tile_store.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <string>
#include <string_view>

#include "names_in.h"
#include "store_fixture.h"

namespace {

std::function<void()> on_sync;
std::atomic<int> unlinks_to_fail{0};   // of segment files
std::atomic<uid_t> another_user{0};    // whose process this is, if not 0
std::atomic<int> flock_fails_with{0};  // an errno, if not 0

bool fails(std::string_view name) {
  return name.ends_with(".seg") && unlinks_to_fail > 0 && unlinks_to_fail-- > 0;
}

int remove_name(int directory, const char* name, int flags) {
  if (!fails(name)) return static_cast<int>(::syscall(SYS_unlinkat, directory, name, flags));
  errno = EIO;
  return -1;
}

}  // namespace

extern "C" {
int fdatasync(int fd) {
  if (on_sync) on_sync();
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}
uid_t geteuid() noexcept {
  return another_user != 0 ? another_user.load() : static_cast<uid_t>(::syscall(SYS_geteuid));
}
int flock(int fd, int operation) noexcept {
  if (flock_fails_with == 0) return static_cast<int>(::syscall(SYS_flock, fd, operation));
  errno = flock_fails_with;
  return -1;
}
int unlink(const char* name) noexcept { return remove_name(AT_FDCWD, name, 0); }
int unlinkat(int directory, const char* name, int flags) noexcept {
  return remove_name(directory, name, flags);
}
}

namespace spillway::swapper {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string journal(const Scratch& directory) {
  std::ifstream file(directory / DirectoryLock::kFileName);
  return {std::istreambuf_iterator<char>(file), {}};
}

// After a power cut the next job finds every file that was made: its name was on the disk before.
TEST(LockSystemCalls, TheListIsSyncedBeforeAFileOfItIsMade) {
  const Scratch directory;
  const auto lock = DirectoryLock::acquire(directory.path());
  ASSERT_TRUE(lock) << lock.error().message();
  std::string synced;
  on_sync = [&] { synced = journal(directory); };
  const std::vector<std::string> names{"spillway-a.seg", "spillway-b.seg"};
  const auto listed = (*lock)->will_create(names);
  on_sync = nullptr;
  ASSERT_TRUE(listed);
  EXPECT_THAT(synced, HasSubstr("+spillway-a.seg\n+spillway-b.seg\n"));
}

std::unique_ptr<TileStore> make_store(aio::Engine& engine, const Scratch& directory) {
  auto store = TileStore::create(engine, Layout({{"param", 4}}), {1024, 1024},
                                 {.directories = {directory.path()}});
  EXPECT_TRUE(store) << store.error().message();
  return std::move(*store);
}

TEST(LockSystemCalls, AFileThatCouldNotBeRemovedIsRemovedWithTheLock) {
  const Scratch directory;
  const auto engine = make_engine(aio::BackendKind::kAuto);
  auto store = make_store(*engine, directory);
  unlinks_to_fail = 1;
  store.reset();
  EXPECT_EQ(unlinks_to_fail, 0);
  EXPECT_THAT(names_in(directory.path()), IsEmpty());
}

TEST(LockSystemCalls, AFileThatCannotBeRemovedStaysOnTheListForTheNextJob) {
  const Scratch directory;
  const auto engine = make_engine(aio::BackendKind::kAuto);
  auto store = make_store(*engine, directory);
  unlinks_to_fail = 2;  // by the store, and by its lock
  store.reset();
  EXPECT_EQ(unlinks_to_fail, 0);
  EXPECT_EQ(names_in(directory.path()).size(), 2u) << "the file and its list";
  {
    const auto lock = DirectoryLock::acquire(directory.path());
    ASSERT_TRUE(lock) << lock.error().message();
    EXPECT_EQ((*lock)->leftovers_removed(), 1u);
  }
  EXPECT_THAT(names_in(directory.path()), IsEmpty());
}

// The child has a copy of the descriptor, and with it the lock, until it ends or closes it.
TEST(LockSystemCalls, AForkedChildDoesNotKeepTheLock) {
  const Scratch directory;
  const auto engine = make_engine(aio::BackendKind::kAuto);
  auto store = make_store(*engine, directory);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(10);
    ::pause();
    ::_exit(0);
  }
  unlinks_to_fail = 2;  // so that the lock file stays
  store.reset();
  const auto lock = DirectoryLock::acquire(directory.path());
  EXPECT_TRUE(lock) << lock.error().message();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST(LockSystemCalls, WhereFlockIsNotThereTheErrorNamesTheWayOut) {
  const Scratch directory;
  for (const int reason : {ENOSYS, EOPNOTSUPP, ENOLCK}) {
    flock_fails_with = reason;
    const auto lock = DirectoryLock::acquire(directory.path());
    flock_fails_with = 0;
    ASSERT_FALSE(lock);
    EXPECT_EQ(lock.error().kind, ErrorKind::kUnsupported);
    EXPECT_EQ(lock.error().errno_value, reason);
    EXPECT_THAT(lock.error().message(), HasSubstr("mount Lustre with -o flock (localflock"));
    EXPECT_THAT(lock.error().message(), HasSubstr("local_lock=flock"));
    EXPECT_THAT(lock.error().message(), HasSubstr("choose another directory"));
    EXPECT_THAT(names_in(directory.path()), IsEmpty()) << "a lock file of nobody stays";
  }
  // Of a job that was killed where flock was there: its list stays.
  std::ofstream(directory / DirectoryLock::kFileName) << "spillway-lock 1 1\n+spillway-a-0.seg\n";
  flock_fails_with = ENOLCK;
  EXPECT_FALSE(DirectoryLock::acquire(directory.path()));
  flock_fails_with = 0;
  EXPECT_THAT(journal(directory), HasSubstr("+spillway-a-0.seg"));
  EXPECT_TRUE(DirectoryLock::acquire(directory.path()));
}

// Whoever can write the list would else have another user remove files.
TEST(LockSystemCalls, TheListOfAnotherUserRemovesNothing) {
  const Scratch directory;
  std::ofstream(directory / "spillway-tiles-0.seg") << "data";
  std::ofstream(directory / DirectoryLock::kFileName)
      << "spillway-lock 1 1\n+spillway-tiles-0.seg\n+spillway-tiles-1.seg\n";
  const std::string before = journal(directory);
  another_user = ::geteuid() + 7;
  const auto refused = DirectoryLock::acquire(directory.path());
  another_user = 0;
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kPermission);
  const std::string owner = std::to_string(::geteuid());
  EXPECT_THAT(refused.error().message(), HasSubstr("belongs to user " + owner));
  EXPECT_THAT(refused.error().message(), HasSubstr("the 2 files that it lists are not removed"));
  EXPECT_EQ(journal(directory), before);
  EXPECT_EQ(names_in(directory.path()).size(), 2u);
  const auto owned = DirectoryLock::acquire(directory.path());
  ASSERT_TRUE(owned) << owned.error().message();
  EXPECT_EQ((*owned)->leftovers_removed(), 1u);
}

// Nothing of his goes, and a directory of several users stays usable.
TEST(LockSystemCalls, AnEmptyListOfAnotherUserIsTakenOver) {
  const Scratch directory;
  std::ofstream(directory / DirectoryLock::kFileName) << "spillway-lock 1 1\n";
  another_user = ::geteuid() + 7;
  const auto lock = DirectoryLock::acquire(directory.path());
  another_user = 0;
  EXPECT_TRUE(lock) << lock.error().message();
}

}  // namespace
}  // namespace spillway::swapper
