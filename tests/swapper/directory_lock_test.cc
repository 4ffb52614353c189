#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <spillway/swapper/directory_lock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "names_in.h"
#include "support/child.h"
#include "support/scratch.h"

namespace spillway::swapper {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

void write_file(const std::filesystem::path& path, const std::string& text = "data") {
  std::ofstream(path) << text;
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Another process that runs `start` and then stays until it is killed.
class OtherProcess {
 public:
  explicit OtherProcess(const std::function<bool()>& start) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    pid_ = fork();
    if (pid_ == 0) {
      const char ok = start() ? 'y' : 'n';
      if (write(ready[1], &ok, 1) == 1) pause();
      _exit(0);
    }
    char ok = 'n';
    EXPECT_EQ(read(ready[0], &ok, 1), 1);
    EXPECT_EQ(ok, 'y');
    close(ready[0]);
    close(ready[1]);
  }
  ~OtherProcess() { kill_it(); }
  void kill_it() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

TEST(DirectoryLock, RemovesItsFilesAndItselfWhenDropped) {
  const Scratch directory;
  write_file(directory / "notes.txt");
  {
    const auto lock = DirectoryLock::acquire(directory.path());
    ASSERT_TRUE(lock) << lock.error().message();
    EXPECT_EQ((*lock)->leftovers_removed(), 0u);
    const std::vector<std::string> names{"spillway-a.seg", "spillway-b.seg"};
    ASSERT_TRUE((*lock)->will_create(names));
    write_file(directory / "spillway-a.seg");
    EXPECT_THAT(names_in(directory.path()),
                UnorderedElementsAre("spillway-a.seg", "notes.txt", "spillway.lock"));
  }
  EXPECT_THAT(names_in(directory.path()), ElementsAre("notes.txt"));
}

TEST(DirectoryLock, ASecondOneInThisProcessIsRefusedUntilTheFirstIsDropped) {
  const Scratch directory;
  auto first = DirectoryLock::acquire(directory.path());
  ASSERT_TRUE(first);
  const auto second = DirectoryLock::acquire(directory.path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(second.error().message(), HasSubstr("this process has the lock already"));
  EXPECT_THAT(second.error().message(), HasSubstr("TileStoreOptions::locks"));
  EXPECT_THAT(second.error().message(), testing::Not(HasSubstr("wait for it")));
  first->reset();
  EXPECT_TRUE(DirectoryLock::acquire(directory.path()));
}

TEST(DirectoryLock, IsSharedWithinAProcessByAnyPathUntilTheLastOneIsDropped) {
  const Scratch directory;
  const Scratch elsewhere;
  std::filesystem::create_directory_symlink(std::filesystem::absolute(directory.path()),
                                            elsewhere / "link");
  auto first = DirectoryLock::share(directory.path());
  ASSERT_TRUE(first) << first.error().message();
  auto second = DirectoryLock::share(elsewhere / "link");
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(*first, *second);
  EXPECT_FALSE(DirectoryLock::acquire(directory.path()));
  EXPECT_TRUE(DirectoryLock::share(elsewhere.path())) << "another directory";
  first->reset();
  EXPECT_THAT(names_in(directory.path()), ElementsAre("spillway.lock"));
  EXPECT_FALSE(DirectoryLock::acquire(directory.path()));
  second->reset();
  EXPECT_TRUE(names_in(directory.path()).empty());
  const auto alone = DirectoryLock::acquire(directory.path());
  ASSERT_TRUE(alone) << alone.error().message();
  const auto refused = DirectoryLock::share(directory.path());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(refused.error().message(), HasSubstr("this process has the lock already"));
}

// One may be about to let go of the lock, or about to take it, when another asks.
TEST(DirectoryLock, ManyThreadsShareItAndNoneIsRefused) {
  const Scratch directory;
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        refused += DirectoryLock::share(directory.path()) ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, 0);
  EXPECT_TRUE(names_in(directory.path()).empty());
}

TEST(DirectoryLock, IsNotSharedBetweenProcesses) {
  const Scratch directory;
  const auto lock = DirectoryLock::share(directory.path());
  ASSERT_TRUE(lock);
  const std::string holder = "in use by process " + std::to_string(getpid()) + ";";
  EXPECT_EQ(in_child(
                [&]() -> std::string {
                  const auto second = DirectoryLock::share(directory.path());
                  if (second) return "shared with the child";
                  const std::string message = second.error().message();
                  return message.find(holder) == std::string::npos ? message : "";
                },
                10),
            "");
}

TEST(DirectoryLock, AStoresNameIsReservedUntilItIsGivenBack) {
  const Scratch directory;
  const auto lock = DirectoryLock::share(directory.path());
  ASSERT_TRUE(lock);
  EXPECT_TRUE((*lock)->add_store("a"));
  EXPECT_TRUE((*lock)->add_store("b"));
  const auto twice = (*lock)->add_store("a");
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(twice.error().message(), HasSubstr("has the name 'a' in this directory"));
  (*lock)->remove_store("a");
  EXPECT_TRUE((*lock)->add_store("a"));
}

TEST(DirectoryLock, NamesTheProcessThatHoldsIt) {
  const Scratch directory;
  std::shared_ptr<DirectoryLock> held;
  const OtherProcess other([&] {
    held = DirectoryLock::acquire(directory.path()).value_or(nullptr);
    return held != nullptr;
  });
  const auto lock = DirectoryLock::acquire(directory.path());
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(lock.error().message(),
              HasSubstr("in use by process " + std::to_string(other.pid()) + ";"));
  EXPECT_THAT(lock.error().message(), HasSubstr(directory.path().string()));
}

// The holder unlinks the file when it lets go, while others have it open and try.
TEST(DirectoryLock, NeverHasTwoHolders) {
  const Scratch directory;
  std::atomic<int> holders{0};
  std::atomic<int> most{0};
  std::atomic<int> taken{0};
  const auto compete = [&] {
    while (taken < 100) {
      const auto lock = DirectoryLock::acquire(directory.path());
      if (!lock) continue;
      const int now = ++holders;
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
      }
      ++taken;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      --holders;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(compete);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 1);
  EXPECT_TRUE(names_in(directory.path()).empty());
}

TEST(DirectoryLock, RemovesWhatAKilledProcessLeftAndNothingElse) {
  const Scratch directory;
  write_file(directory / "notes.txt");
  write_file(directory / "spillway-optimizer-9.seg");  // looks like ours and is not on the list
  std::shared_ptr<DirectoryLock> held;
  OtherProcess other([&] {
    held = DirectoryLock::acquire(directory.path()).value_or(nullptr);
    const std::vector<std::string> names{"spillway-one.seg", "spillway-two.seg",
                                         "spillway-never_made.seg", "spillway-gone.seg"};
    if (!held || !held->will_create(names)) return false;
    held->removed(std::vector<std::string>{"spillway-gone.seg"});
    write_file(directory / "spillway-one.seg");
    write_file(directory / "spillway-two.seg");
    return true;
  });
  other.kill_it();
  write_file(directory / "spillway-gone.seg", "a user's, made since");
  {
    const auto lock = DirectoryLock::acquire(directory.path());
    ASSERT_TRUE(lock) << lock.error().message();
    EXPECT_EQ((*lock)->leftovers_removed(), 2u);
  }
  EXPECT_THAT(names_in(directory.path()),
              UnorderedElementsAre("notes.txt", "spillway-optimizer-9.seg", "spillway-gone.seg"));
  EXPECT_EQ(contents(directory / "spillway-gone.seg"), "a user's, made since");
}

TEST(DirectoryLock, KnowsItsDirectoryAfterAChangeOfTheWorkingDirectory) {
  const Scratch directory;
  const std::filesystem::path root = std::filesystem::absolute(directory.path());
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(root);
  auto lock = DirectoryLock::acquire(".");
  std::filesystem::current_path(before);
  ASSERT_TRUE(lock) << lock.error().message();
  EXPECT_TRUE((*lock)->directory().is_absolute());
  EXPECT_TRUE(std::filesystem::equivalent((*lock)->directory(), root));
}

TEST(DirectoryLock, AFileOfTheNameIsNeitherListedNorRemoved) {
  const Scratch directory;
  write_file(directory / "spillway-b.seg", "the user's");
  {
    const auto lock = DirectoryLock::acquire(directory.path());
    ASSERT_TRUE(lock);
    const std::vector<std::string> names{"spillway-a.seg", "spillway-b.seg"};
    const auto listed = (*lock)->will_create(names);
    ASSERT_FALSE(listed);
    EXPECT_EQ(listed.error().kind, ErrorKind::kBusy);
    EXPECT_THAT(listed.error().message(), HasSubstr("spillway-b.seg"));
  }
  EXPECT_EQ(contents(directory / "spillway-b.seg"), "the user's");
}

TEST(DirectoryLock, AForeignFileOfTheLocksNameIsLeftAlone) {
  const Scratch directory;
  write_file(directory / "spillway.lock", "my diary");
  const auto lock = DirectoryLock::acquire(directory.path());
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(contents(directory / "spillway.lock"), "my diary");
}

TEST(DirectoryLock, AListThatLeadsElsewhereRemovesNothingThere) {
  const Scratch directory;
  const Scratch elsewhere;
  write_file(elsewhere / "victim");
  write_file(directory / "real");
  std::filesystem::create_directory(directory / "spillway-folder.seg");
  std::filesystem::create_symlink(elsewhere / "victim", directory / "spillway-link.seg");
  write_file(directory / "spillway.lock",
             "spillway-lock 1 1\n+../" + elsewhere.path().filename().string() +
                 "/victim\n+spillway-folder.seg\n+spillway-link.seg\n+real\n"
                 "+spillway-a/../real.seg\n+spillway-real.seg\n+spillway-unfinished.seg");
  write_file(directory / "spillway-real.seg");
  write_file(directory / "spillway-unfinished.seg");
  {
    const auto lock = DirectoryLock::acquire(directory.path());
    ASSERT_TRUE(lock) << lock.error().message();
    EXPECT_EQ((*lock)->leftovers_removed(), 1u);
  }
  EXPECT_THAT(names_in(elsewhere.path()), ElementsAre("victim"));
  EXPECT_THAT(names_in(directory.path()),
              UnorderedElementsAre("real", "spillway-folder.seg", "spillway-link.seg",
                                   "spillway-unfinished.seg"));
}

// Whoever can write the list would else choose which of the directory's files go.
TEST(DirectoryLock, AListRemovesFilesOfOurNamesOnly) {
  const Scratch directory;
  const std::vector<std::string> names{"thesis.tex",       "spillway-thesis.tex", "tiles-0.seg",
                                       "spillway-0.seg~",  ".spillway-0.seg",     "spillway.lock",
                                       "spillway.lock.seg"};
  std::string list = "spillway-lock 1 1\n+spillway-tiles-0.seg\n";
  for (const std::string& name : names) {
    if (name != "spillway.lock") write_file(directory / name);
    list += "+" + name + "\n";
  }
  write_file(directory / "spillway-tiles-0.seg");
  write_file(directory / "spillway.lock", list);
  const auto lock = DirectoryLock::acquire(directory.path());
  ASSERT_TRUE(lock) << lock.error().message();
  EXPECT_EQ((*lock)->leftovers_removed(), 1u);
  EXPECT_THAT(names_in(directory.path()), testing::UnorderedElementsAreArray(names));
}

TEST(DirectoryLock, WhatIsNoRegularFileIsNoLock) {
  const Scratch directory;
  const Scratch elsewhere;
  write_file(elsewhere / "victim", "");
  std::filesystem::create_symlink(elsewhere / "victim", directory / "spillway.lock");
  auto lock = DirectoryLock::acquire(directory.path());
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(lock.error().message(), HasSubstr("no lock of ours"));
  EXPECT_EQ(contents(elsewhere / "victim"), "");
  std::filesystem::remove(directory / "spillway.lock");
  ASSERT_EQ(mkfifo((directory / "spillway.lock").c_str(), 0600), 0);
  lock = DirectoryLock::acquire(directory.path());
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(lock.error().message(), HasSubstr("no lock of ours"));
  EXPECT_THAT(names_in(directory.path()), ElementsAre("spillway.lock"));
}

TEST(DirectoryLock, AMissingDirectoryIsNotMade) {
  const Scratch directory;
  const auto lock = DirectoryLock::acquire(directory / "missing");
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(lock.error().message(), HasSubstr("missing"));
  EXPECT_TRUE(names_in(directory.path()).empty());
}

// Runs in a child with a mount namespace of its own, so that nothing stays mounted.
enum Outcome { kRefused = 0, kOther = 1, kNoMount = 2 };
Outcome acquire_read_only(const std::filesystem::path& directory) {
  const char* path = directory.c_str();
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount(path, path, nullptr, MS_BIND, nullptr) != 0 ||
      mount(path, path, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
    return kNoMount;
  }
  const auto lock = DirectoryLock::acquire(directory);
  return !lock && lock.error().kind == ErrorKind::kPermission ? kRefused : kOther;
}

TEST(DirectoryLock, AReadOnlyDirectoryIsRefused) {
  const Scratch directory;
  if (geteuid() != 0) {
    std::filesystem::permissions(
        directory.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
    const auto lock = DirectoryLock::acquire(directory.path());
    ASSERT_FALSE(lock);
    EXPECT_EQ(lock.error().kind, ErrorKind::kPermission);
    return;
  }
  const pid_t child = fork();
  if (child == 0) _exit(acquire_read_only(directory.path()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WEXITSTATUS(status) == kNoMount) GTEST_SKIP() << "root, but may not mount: " << errno;
  EXPECT_EQ(WEXITSTATUS(status), kRefused);
}

TEST(DirectoryLockDeathTest, NamesAreOurs) {
  const Scratch directory;
  const auto lock = DirectoryLock::acquire(directory.path());
  ASSERT_TRUE(lock);
  for (const char* name : {"", ".", "..", "a.seg", "spillway-a", "spillway-a/b.seg",
                           "spillway-a\nb.seg", "spillway.lock"}) {
    const std::vector<std::string> names{name};
    EXPECT_DEATH((void)(*lock)->will_create(names), "a name of this library");
  }
}

}  // namespace
}  // namespace spillway::swapper
