// A save that is killed before any of its system calls, or of which any call fails: afterwards all
// is there, or nothing. The calls below stand in front of libc's, in this program only.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>

#include "saved_fixture.h"
#include "support/child.h"
#include "support/seed.h"

namespace {

std::atomic<bool> watched{false};
std::atomic<int> calls{0};
std::atomic<int> kill_before{0};  // the call of this number; 0: none
std::atomic<int> fail_at{0};
int link_error = 0;  // of every link; 0: it links
std::function<void()> before_rename;
std::vector<ino_t> synced;          // in the order of the calls
std::vector<ino_t> synced_in_time;  // before the rename

void note_sync(int fd) {
  struct stat status {};
  if (watched && ::fstat(fd, &status) == 0) synced.push_back(status.st_ino);
}

// Returns true if the call is to fail.
bool step() {
  if (!watched) return false;
  const int number = ++calls;
  if (number == kill_before) ::kill(::getpid(), SIGKILL);
  if (number != fail_at) return false;
  errno = EIO;
  return true;
}
template <typename... Arguments>
int call(long number, Arguments... arguments) {
  return step() ? -1 : static_cast<int>(::syscall(number, arguments...));
}

}  // namespace

extern "C" {
int fsync(int fd) {
  note_sync(fd);
  return call(SYS_fsync, fd);
}
int fdatasync(int fd) {
  note_sync(fd);
  return call(SYS_fdatasync, fd);
}
int fchmod(int fd, mode_t mode) noexcept { return call(SYS_fchmod, fd, mode); }
int flock(int fd, int operation) noexcept { return call(SYS_flock, fd, operation); }
int mkdirat(int directory, const char* name, mode_t mode) noexcept {
  return call(SYS_mkdirat, directory, name, mode);
}
int unlinkat(int directory, const char* name, int flags) noexcept {
  return call(SYS_unlinkat, directory, name, flags);
}
int linkat(int from, const char* old_name, int to, const char* name, int flags) noexcept {
  if (link_error != 0) {
    errno = link_error;
    return -1;
  }
  return call(SYS_linkat, from, old_name, to, name, flags);
}
int renameat2(int from, const char* old_name, int to, const char* name,
              unsigned int flags) noexcept {
  synced_in_time = std::exchange(synced, {});
  if (before_rename) before_rename();
  return call(SYS_renameat2, from, old_name, to, name, flags);
}
ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) {
  return step() ? -1 : ::syscall(SYS_pwrite64, fd, bytes, count, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t count, off64_t offset) {
  return pwrite(fd, bytes, count, offset);
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
  return call(SYS_fallocate, fd, mode, offset, size);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
  return fallocate(fd, mode, offset, size);
}
}

namespace spillway::swapper {
namespace {

const std::vector<std::uint32_t> kVersions{1, 2, 3, 4, 5, 6};

class SavedSystemCallsOnce : public testing::Test {
 protected:
  SavedSystemCallsOnce() { std::filesystem::create_directory(scratch_ / "swap"); }
  ~SavedSystemCallsOnce() override { link_error = 0; }

  // Saves in a child, with the versions from `first` on. Returns what in_child does.
  std::string save(std::uint32_t first, const std::function<void()>& before) {
    return in_child([&]() -> std::string {
      const auto engine = make_engine(aio::BackendKind::kThreadPool);
      const auto tiles = make_saved_store(*engine, scratch_ / "swap");
      write_all(*tiles, first);
      before();
      calls = 0;
      watched = true;
      const auto done = save_tiles(*tiles, saved_);
      watched = false;
      if (!done) return done.error().message();
      return has_versions(*engine, saved_, kVersions) ? "" : "other versions";
    });
  }
  std::string open_saved(const std::vector<std::uint32_t>& versions) {
    return in_child([&]() -> std::string {
      const auto engine = make_engine(aio::BackendKind::kThreadPool);
      const auto result = has_versions(*engine, saved_, versions);
      return result ? "" : result.message();
    });
  }

  Scratch scratch_;
  const std::filesystem::path saved_ = scratch_ / "saved";
};

// The parameter: what every link fails with; 0: it links.
class SavedSystemCalls : public SavedSystemCallsOnce, public testing::WithParamInterface<int> {
 protected:
  SavedSystemCalls() { link_error = GetParam(); }
};

TEST_P(SavedSystemCalls, KilledBeforeAnyCallAllIsThereOrNothing) {
  int nothing = 0;
  int all = 0;
  int number = 1;
  for (;; ++number) {
    const std::string outcome = save(1, [&] { kill_before = number; });
    if (outcome.empty()) break;
    ASSERT_EQ(outcome, "killed by signal 9") << "call " << number;
    if (std::filesystem::exists(saved_)) {
      ++all;
      ASSERT_EQ(open_saved(kVersions), "") << "call " << number;
    } else {
      ++nothing;
      ASSERT_EQ(save(1, [] {}), "") << "after a kill before call " << number;
    }
    EXPECT_THAT(names_in(scratch_.path()), testing::ElementsAre("saved", "swap"));
    std::filesystem::remove_all(saved_);
  }
  EXPECT_GT(nothing, 10);
  EXPECT_GT(all, 0) << "killed after the rename";
  EXPECT_EQ(open_saved(kVersions), "");
}

TEST_P(SavedSystemCalls, WhicheverCallFailsNothingIsLeft) {
  int failures = 0;
  for (int number = 1;; ++number) {
    const std::string outcome = save(1, [&] { fail_at = number; });
    ASSERT_EQ(outcome.find("killed"), std::string::npos) << outcome;
    if (outcome.empty()) {
      ASSERT_EQ(open_saved(kVersions), "") << "call " << number;
      std::filesystem::remove_all(saved_);
      if (number > failures + 8) break;  // there were calls whose failure does not matter
      continue;
    }
    ++failures;
    EXPECT_FALSE(std::filesystem::exists(saved_)) << "call " << number << ": " << outcome;
    ASSERT_EQ(save(1, [] {}), "") << "after a failure of call " << number << ": " << outcome;
    std::filesystem::remove_all(saved_);
  }
  EXPECT_GT(failures, 10);
}

// After a power cut, too: every file before the directory, the directory before it gets its name,
// and the one above after it.
TEST_P(SavedSystemCalls, AllIsSyncedBeforeItHasItsName) {
  const std::string outcome = in_child([&]() -> std::string {
    const auto engine = make_engine(aio::BackendKind::kThreadPool);
    const auto tiles = make_saved_store(*engine, scratch_ / "swap");
    write_all(*tiles, 1);
    watched = true;
    const auto done = save_tiles(*tiles, saved_);
    watched = false;
    const auto inode_of = [](const std::filesystem::path& path) {
      struct stat status {};
      return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
    };
    if (synced_in_time.empty() || synced_in_time.back() != inode_of(saved_)) return "the directory";
    for (const std::string& name : names_in(saved_)) {
      if (std::ranges::count(synced_in_time, inode_of(saved_ / name)) != 1) return name;
    }
    if (synced != std::vector<ino_t>{inode_of(scratch_.path())}) return "the one above";
    return done ? "" : done.error().message();
  });
  EXPECT_EQ(outcome, "");
}

TEST_P(SavedSystemCalls, KilledAtRandomTimes) {
  const std::uint64_t seed = test_seed(13);
  std::mt19937_64 draw(seed);
  for (int round = 0; round < 25; ++round) {
    int channel[2];
    ASSERT_EQ(::pipe(channel), 0);
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      const auto engine = make_engine(aio::BackendKind::kThreadPool);
      const auto tiles = make_saved_store(*engine, scratch_ / "swap");
      write_all(*tiles, 1);
      if (::write(channel[1], "b", 1) != 1) ::_exit(1);
      const bool saved = save_tiles(*tiles, saved_).has_value();
      ::_exit(saved ? 0 : 1);
    }
    char begun = 0;
    ASSERT_EQ(::read(channel[0], &begun, 1), 1);
    std::this_thread::sleep_for(std::chrono::microseconds(draw() % 20'000));
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ::close(channel[0]);
    ::close(channel[1]);
    ASSERT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << "seed " << seed;
    if (!std::filesystem::exists(saved_)) continue;
    ASSERT_EQ(open_saved(kVersions), "") << "seed " << seed << ", round " << round;
    std::filesystem::remove_all(saved_);
  }
  ASSERT_EQ(save(1, [] {}), "");
  EXPECT_THAT(names_in(scratch_.path()), testing::ElementsAre("saved", "swap"));
}

INSTANTIATE_TEST_SUITE_P(Links, SavedSystemCalls, testing::Values(0, EXDEV),
                         [](const auto& info) { return info.param == 0 ? "linked" : "copied"; });

// What kernels say where no link is possible.
class SavedWithoutLinks : public SavedSystemCalls {};
TEST_P(SavedWithoutLinks, TheTilesAreCopied) {
  ASSERT_EQ(save(1, [] {}), "");
  EXPECT_EQ(std::filesystem::file_size(saved_ / "segment-00002"), kSavedLayout.tile_bytes(20'000));
}
INSTANTIATE_TEST_SUITE_P(Errors, SavedWithoutLinks,
                         testing::Values(EXDEV, EPERM, EMLINK, EOPNOTSUPP, ENOENT));

TEST_F(SavedSystemCallsOnce, WhatIsMadeMeanwhileIsNotReplaced) {
  const std::string outcome =
      save(1, [&] { before_rename = [&] { std::filesystem::create_directory(saved_); }; });
  EXPECT_THAT(outcome, testing::HasSubstr("was made meanwhile"));
  EXPECT_TRUE(std::filesystem::is_empty(saved_));
  EXPECT_THAT(names_in(scratch_.path()), testing::UnorderedElementsAre("saved", "swap"));
}

TEST_F(SavedSystemCallsOnce, AnotherErrorOfALinkIsAFailure) {
  link_error = EIO;
  EXPECT_THAT(save(1, [] {}), testing::HasSubstr("link "));
  EXPECT_FALSE(std::filesystem::exists(saved_));
  link_error = 0;
  EXPECT_EQ(save(1, [] {}), "");
}

}  // namespace
}  // namespace spillway::swapper
