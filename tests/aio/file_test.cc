#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spillway/aio/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "support/child.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(File, CreatesTheExactSizeWithEveryBlockAllocated) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {.size_bytes = 1'000'001});
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(*file->size_bytes(), 1'000'001u);
  EXPECT_TRUE(file->writable());
  struct stat status {};
  ASSERT_EQ(::stat((scratch / "x").c_str(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, 1'000'001);
}

TEST(File, NeverTruncatesWhatIsThereUnasked) {
  Scratch scratch;
  std::ofstream(scratch / "x") << "precious";
  auto file = File::create(scratch / "x", {.size_bytes = 4096});
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().kind, ErrorKind::kBusy);
  EXPECT_EQ(contents(scratch / "x"), "precious");
  file = File::create(scratch / "x", {.size_bytes = 4096, .overwrite = true});
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(contents(scratch / "x"), std::string(4096, '\0'));
}

TEST(File, LeavesNothingBehindWhenTheSpaceCannotBeHad) {
  Scratch scratch;
  EXPECT_EQ(in_child([&]() -> std::string {
              rlimit limit{.rlim_cur = 65536, .rlim_max = 65536};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              auto file = File::create(scratch / "x", {.size_bytes = 1 << 20});
              if (file) return "created beyond the limit";
              if (file.error().kind != ErrorKind::kNoSpace) return file.error().message();
              if (file.error().message().find("1048576 bytes") == std::string::npos) {
                return "no size in: " + file.error().message();
              }
              return std::filesystem::exists(scratch / "x") ? "left behind" : "";
            }),
            "");
}

// The full disk of a small filesystem, with the limit of file sizes in its place.
TEST(File, RefusesASizeThatNoFileCanHave) {
  Scratch scratch;
  std::ofstream(scratch / "x") << "precious";
  for (const bool overwrite : {false, true}) {
    for (const std::uint64_t size_bytes : {std::uint64_t{INT64_MAX} + 1, UINT64_MAX}) {
      auto file = File::create(scratch / (overwrite ? "x" : "y"),
                               {.size_bytes = size_bytes, .overwrite = overwrite});
      ASSERT_FALSE(file);
      EXPECT_EQ(file.error().kind, ErrorKind::kInvalid);
      EXPECT_NE(file.error().message().find("size_bytes is " + std::to_string(size_bytes)),
                std::string::npos)
          << file.error().message();
    }
  }
  EXPECT_EQ(contents(scratch / "x"), "precious");
  EXPECT_FALSE(std::filesystem::exists(scratch / "y"));
}

TEST(File, WhatIsToBeReplacedStaysUntilTheNewOneHasItsRoom) {
  Scratch scratch;
  std::ofstream(scratch / "x") << "precious";
  EXPECT_EQ(in_child([&]() -> std::string {
              rlimit limit{.rlim_cur = 65536, .rlim_max = 65536};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              auto file = File::create(scratch / "x", {.size_bytes = 1 << 20, .overwrite = true});
              if (file) return "created beyond the limit";
              return file.error().kind == ErrorKind::kNoSpace ? "" : file.error().message();
            }),
            "");
  EXPECT_EQ(contents(scratch / "x"), "precious");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.path()), {}), 1)
      << "nothing is left beside it";
}

TEST(File, AReplacedFileKeepsItsPermissionsAndWhoHasItOpenItsBytes) {
  Scratch scratch;
  std::ofstream(scratch / "x") << "precious";
  ASSERT_EQ(::chmod((scratch / "x").c_str(), 0640), 0);
  std::ifstream held(scratch / "x");
  auto file = File::create(scratch / "x", {.size_bytes = 4096, .overwrite = true});
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->path(), (scratch / "x").string());
  EXPECT_EQ(contents(scratch / "x"), std::string(4096, '\0'));
  struct stat status {};
  ASSERT_EQ(::stat((scratch / "x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
  std::string old;
  held >> old;
  EXPECT_EQ(old, "precious");
}

TEST(File, OverwritesRegularFilesOnly) {
  Scratch scratch;
  std::ofstream(scratch / "elsewhere") << "precious";
  std::filesystem::create_symlink(scratch / "elsewhere", scratch / "link");
  std::filesystem::create_symlink(scratch / "nowhere", scratch / "dangling");
  std::filesystem::create_directory(scratch / "directory");
  ASSERT_EQ(::mkfifo((scratch / "fifo").c_str(), 0600), 0);
  for (const char* name : {"link", "dangling", "directory", "fifo"}) {
    // More than there is room for: a failure must remove nothing either.
    for (const std::uint64_t size_bytes : {std::uint64_t{4096}, std::uint64_t{1} << 60}) {
      auto file = File::create(scratch / name, {.size_bytes = size_bytes, .overwrite = true});
      ASSERT_FALSE(file) << name;
      EXPECT_EQ(file.error().kind, ErrorKind::kInvalid) << file.error().message();
      EXPECT_TRUE(std::filesystem::symlink_status(scratch / name).type() !=
                  std::filesystem::file_type::not_found)
          << name;
    }
    EXPECT_FALSE(File::create(scratch / name, {})) << name;
  }
  EXPECT_EQ(contents(scratch / "elsewhere"), "precious");
  EXPECT_FALSE(std::filesystem::exists(scratch / "nowhere"));
}

TEST(File, FollowsTheUmaskUnlessItIsToBePrivate) {
  Scratch scratch;
  EXPECT_EQ(in_child([&]() -> std::string {
              ::umask(027);
              const auto mode = [&](const char* name) {
                struct stat status {};
                return ::stat((scratch / name).c_str(), &status) == 0 ? status.st_mode & 0777 : 0u;
              };
              if (!File::create(scratch / "open", {}) ||
                  !File::create(scratch / "private", {.permissions = 0600})) {
                return "not created";
              }
              return mode("open") == 0640 && mode("private") == 0600 ? "" : "other permissions";
            }),
            "");
}

// The kernel sends SIGXFSZ, which ends a process that has not asked for anything else.
TEST(File, AFileSizeLimitIsAnError) {
  Scratch scratch;
  EXPECT_EQ(in_child([&]() -> std::string {
              rlimit limit{.rlim_cur = 65536, .rlim_max = 65536};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              auto file = File::create(scratch / "x", {.size_bytes = 1 << 20});
              if (file) return "created beyond the limit";
              sigset_t pending;
              ::sigpending(&pending);
              if (::sigismember(&pending, SIGXFSZ) != 0) return "the signal is left behind";
              ::pthread_sigmask(SIG_SETMASK, nullptr, &pending);
              return ::sigismember(&pending, SIGXFSZ) == 0 ? "" : "the signal stays blocked";
            }),
            "");
}

TEST(File, ASignalThatTheProgramHoldsBackIsLeftToIt) {
  Scratch scratch;
  EXPECT_EQ(in_child([&]() -> std::string {
              sigset_t set;
              ::sigemptyset(&set);
              ::sigaddset(&set, SIGXFSZ);
              ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
              ::raise(SIGXFSZ);
              if (!File::create(scratch / "x", {.size_bytes = 4096})) return "not created";
              ::sigpending(&set);
              if (::sigismember(&set, SIGXFSZ) == 0) return "the signal was taken away";
              ::pthread_sigmask(SIG_BLOCK, nullptr, &set);
              return ::sigismember(&set, SIGXFSZ) == 1 ? "" : "the signal is blocked no more";
            }),
            "");
}

TEST(File, AFifoIsNoFileAndNobodyWaitsForItsOtherEnd) {
  Scratch scratch;
  ASSERT_EQ(::mkfifo((scratch / "fifo").c_str(), 0600), 0);
  for (const bool writable : {false, true}) {
    auto file = File::open(scratch / "fifo", {.writable = writable});
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().kind, ErrorKind::kInvalid) << file.error().message();
  }
  std::ofstream(scratch / "x") << "x";
  auto file = File::open(scratch / "x");
  ASSERT_TRUE(file);
  EXPECT_EQ(::fcntl(file->fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(File, SaysWhyItCannotBeOpened) {
  Scratch scratch;
  EXPECT_EQ(File::open(scratch / "none").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(File::create(scratch / "no/such/folder", {}).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(File::open(scratch.path()).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(File::open("/dev/null").error().kind, ErrorKind::kInvalid);
}

TEST(File, AsksTheKernelForItsAlignment) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {.size_bytes = 65536});
  ASSERT_TRUE(file);
  if (!file->direct()) GTEST_SKIP() << "no direct I/O here: " << file->why_not_direct();
  EXPECT_NE(::fcntl(file->fd(), F_GETFL) & O_DIRECT, 0);
  std::uint32_t alignment = std::max(file->memory_alignment(), file->offset_alignment());
  EXPECT_EQ(alignment & (alignment - 1), 0u);
  void* memory = nullptr;
  ASSERT_EQ(::posix_memalign(&memory, alignment, alignment), 0);
  EXPECT_EQ(::pread(file->fd(), memory, alignment, alignment), alignment);
  std::free(memory);
}

TEST(File, TmpfsSaysNoAlignmentSoThatOfAPageIsTaken) {
  struct statfs filesystem {};
  constexpr long kTmpfs = 0x01021994;
  if (::statfs("/dev/shm", &filesystem) != 0 || filesystem.f_type != kTmpfs) {
    GTEST_SKIP() << "/dev/shm is no tmpfs here";
  }
  std::string path = "/dev/shm/spillway_file_test." + std::to_string(::getpid());
  auto file = File::create(path, {.size_bytes = 4096});
  ASSERT_TRUE(file) << file.error().message();
  if (file->direct()) {
    EXPECT_EQ(file->memory_alignment(), 4096u);
    EXPECT_EQ(file->offset_alignment(), 4096u);
  } else {
    EXPECT_NE(file->why_not_direct(), "");
  }
  EXPECT_TRUE(file->remove());
}

// Files of /proc know no O_DIRECT, for whoever opens them.
TEST(File, SaysWhyItIsNotDirectOrRefuses) {
  auto automatic = File::open("/proc/self/status");
  ASSERT_TRUE(automatic) << automatic.error().message();
  EXPECT_FALSE(automatic->direct());
  EXPECT_NE(automatic->why_not_direct(), "");
  EXPECT_EQ(automatic->memory_alignment(), 1u);
  EXPECT_EQ(automatic->offset_alignment(), 1u);
  auto required = File::open("/proc/self/status", {.direct = Direct::kRequired});
  ASSERT_FALSE(required);
  EXPECT_EQ(required.error().kind, ErrorKind::kUnsupported);
  auto off = File::open("/proc/self/status", {.direct = Direct::kOff});
  ASSERT_TRUE(off);
  EXPECT_EQ(off->why_not_direct(), "not asked for");
}

TEST(File, ClosesItsDescriptorOnceAndMovesIt) {
  Scratch scratch;
  int fd = -1;
  std::uint64_t id = 0;
  {
    auto first = File::create(scratch / "x", {});
    ASSERT_TRUE(first);
    fd = first->fd();
    id = first->id();
    File second = std::move(*first);
    EXPECT_EQ(first->fd(), -1);
    EXPECT_EQ(second.fd(), fd);
    EXPECT_EQ(second.id(), id);
    EXPECT_NE(::fcntl(fd, F_GETFD), -1);
  }
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
  auto third = File::open(scratch / "x");
  EXPECT_EQ(third->fd(), fd) << "the number comes back";
  EXPECT_NE(third->id(), id) << "the identity does not";
}

TEST(File, SyncsAndRemoves) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {.size_bytes = 4096});
  ASSERT_TRUE(file);
  EXPECT_TRUE(file->sync());
  EXPECT_TRUE(file->remove());
  EXPECT_FALSE(std::filesystem::exists(scratch / "x"));
  EXPECT_EQ(*file->size_bytes(), 4096u) << "the descriptor stays usable";
  EXPECT_EQ(file->remove().error().kind, ErrorKind::kNotFound);
}

TEST(File, AChangeOfTheWorkingDirectoryMisleadsNothing) {
  Scratch scratch;
  for (const char* name : {"a", "b"}) std::filesystem::create_directory(scratch / name);
  std::ofstream(scratch / "b" / "x") << "another";
  EXPECT_EQ(in_child([&]() -> std::string {
              const std::filesystem::path root = std::filesystem::absolute(scratch.path());
              if (::chdir((root / "a").c_str()) != 0) return "chdir failed";
              auto file = File::create("x", {.size_bytes = 4096});
              if (!file) return file.error().message();
              if (file->path() != "x") return "the path is not as it was given";
              if (::chdir((root / "b").c_str()) != 0) return "chdir failed";
              auto again = file->reopen({});
              if (!again) return again.error().message();
              if (again->size_bytes().value_or(0) != 4096) return "another file was opened";
              if (again->writable()) return "it is writable";
              if (auto removed = again->remove(); !removed) return removed.error().message();
              return "";
            }),
            "");
  EXPECT_FALSE(std::filesystem::exists(scratch / "a" / "x"));
  EXPECT_EQ(contents(scratch / "b" / "x"), "another");
}

TEST(File, IsReopenedByItsDescriptorWhateverBecameOfItsName) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {.size_bytes = 8192});
  ASSERT_TRUE(file);
  std::filesystem::rename(scratch / "x", scratch / "y");
  std::ofstream(scratch / "x") << "another";
  auto again = file->reopen({.writable = true});
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(*again->size_bytes(), 8192u);
  EXPECT_TRUE(again->writable());
  EXPECT_EQ(again->path(), file->path());
  EXPECT_NE(again->id(), file->id());
}

TEST(ReadExactly, GivesAllThatWasAskedForOrSaysWhatWasMissing) {
  Scratch scratch;
  const std::filesystem::path path = scratch / "x";
  std::ofstream(path) << "0123456789";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text(4, '?');
  const auto bytes = std::as_writable_bytes(std::span(text));
  ASSERT_TRUE(read_exactly(fd, 6, bytes, path));
  EXPECT_EQ(text, "6789");
  ASSERT_TRUE(read_exactly(fd, 20, bytes.first(0), path));

  const auto cut = read_exactly(fd, 7, bytes, path);
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().kind, ErrorKind::kShortTransfer);
  EXPECT_EQ(cut.error().path, path);
  EXPECT_EQ(cut.error().offset, 7u);
  EXPECT_EQ(cut.error().wanted, 4u);
  EXPECT_EQ(cut.error().got, 3u);
  ::close(fd);
  EXPECT_EQ(read_exactly(fd, 0, bytes, path).error().errno_value, EBADF);
}

TEST(FileDeathTest, AMovedFromFileIsNotUsed) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {});
  File taken = std::move(*file);
  EXPECT_EXIT((void)file->size_bytes(), ::testing::KilledBySignal(SIGABRT), "moved from");
  EXPECT_EXIT((void)file->sync(), ::testing::KilledBySignal(SIGABRT), "moved from");
  EXPECT_EXIT((void)file->remove(), ::testing::KilledBySignal(SIGABRT), "moved from");
}

}  // namespace
}  // namespace spillway::aio
