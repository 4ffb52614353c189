// Rows 2, 3, 19 and 20 of the fault list at the engine, with the kernel's own refusals: file size
// limits, the end of a file, signals, memlock, descriptors, threads, and no io_uring.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <spillway/aio/engine.h>
#include <spillway/aio/probe.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "support/child.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

constexpr uid_t kNobody = 65534;

std::unique_ptr<Engine> make(BackendKind kind, std::string& failure) {
  auto engine = Engine::create({.backend = kind, .block_size_bytes = 65536, .queue_depth = 4});
  if (engine) return std::move(*engine);
  failure = engine.error().message();
  return nullptr;
}

// Writes and reads back through `engine`; empty when the bytes are right.
std::string moves_bytes(Engine& engine, const Result<File>& file) {
  if (!file) return file.error().message();
  Buffer buffer = Buffer::allocate(1 << 20);
  for (std::size_t i = 0; i < buffer.capacity(); ++i) buffer.data()[i] = std::byte(i * 31 >> 3);
  auto done = engine.write({.file = &*file, .size_bytes = 1 << 20}, std::move(buffer)).wait();
  if (!done.transferred) return done.transferred.error().message();
  std::memset(done.buffer.data(), 0, 1 << 20);
  done = engine.read({.file = &*file, .size_bytes = 1 << 20}, std::move(done.buffer)).wait();
  if (!done.transferred) return done.transferred.error().message();
  for (std::size_t i = 0; i < done.buffer.capacity(); ++i) {
    if (done.buffer.data()[i] != std::byte(i * 31 >> 3)) return "wrong byte " + std::to_string(i);
  }
  return "";
}

class EngineLimits : public ::testing::TestWithParam<BackendKind> {
 protected:
  Scratch scratch_;
};

// Row 2, the kernel's own short write: it writes up to the limit, then says EFBIG.
TEST_P(EngineLimits, AFileSizeLimitIsReportedWithWhatWasWritten) {
  EXPECT_EQ(
      in_child([&]() -> std::string {
        rlimit limit{.rlim_cur = 32768, .rlim_max = 32768};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        std::string failure;
        auto engine = make(GetParam(), failure);
        if (engine == nullptr) return failure;
        auto file = File::create(scratch_ / "x", {});
        Buffer buffer = Buffer::allocate(65536);
        std::memset(buffer.data(), 7, 65536);
        auto done = engine->write({.file = &*file, .size_bytes = 65536}, std::move(buffer));
        Error error = done.wait().transferred.error();
        if (error.kind != ErrorKind::kNoSpace || error.errno_value != EFBIG || error.got != 32768) {
          return error.message();
        }
        if (*file->size_bytes() != 32768) return "the file has another size";
        return engine->stats().short_transfers > 0 ? "" : "the short write was not seen";
      }),
      "");
}

// Row 2, the kernel's own short read: across the end of a file.
TEST_P(EngineLimits, AReadAcrossTheEndSaysHowFarItCame) {
  EXPECT_EQ(in_child([&]() -> std::string {
              std::string failure;
              auto engine = make(GetParam(), failure);
              if (engine == nullptr) return failure;
              auto file = File::create(scratch_ / "x", {.size_bytes = 100'001});
              auto done = engine->read({.file = &*file, .offset = 512, .size_bytes = 1 << 20},
                                       Buffer::allocate(1 << 20));
              Error error = done.wait().transferred.error();
              if (error.kind != ErrorKind::kShortTransfer || error.got != 100'001 - 512) {
                return error.message();
              }
              return error.detail == "the file ends at 100001" ? "" : error.detail;
            }),
            "");
}

// Row 3: a signal every 200 microseconds, handled without SA_RESTART, strikes every system call.
TEST_P(EngineLimits, AStormOfSignalsLosesNothing) {
  EXPECT_EQ(in_child([&]() -> std::string {
              struct sigaction action {};
              action.sa_handler = [](int) {};
              ::sigaction(SIGALRM, &action, nullptr);
              itimerval timer{.it_interval = {0, 200}, .it_value = {0, 200}};
              std::string failure;
              auto engine = make(GetParam(), failure);
              if (engine == nullptr) return failure;
              // The main thread stays out of it, so that the signals go to the I/O threads.
              sigset_t alarms;
              ::sigemptyset(&alarms);
              ::sigaddset(&alarms, SIGALRM);
              ::pthread_sigmask(SIG_BLOCK, &alarms, nullptr);
              ::setitimer(ITIMER_REAL, &timer, nullptr);
              auto file = File::create(scratch_ / "x", {.size_bytes = 1 << 20});
              std::string result;
              for (int i = 0; i < 20 && result.empty(); ++i) {
                result = moves_bytes(*engine, file);
              }
              timer = {};
              ::setitimer(ITIMER_REAL, &timer, nullptr);
              return result;
            }),
            "");
}

INSTANTIATE_TEST_SUITE_P(Backends, EngineLimits,
                         ::testing::Values(BackendKind::kAuto, BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == BackendKind::kAuto ? "best" : "threads";
                         });

// Row 19. Root is bound by no such limit, so it becomes somebody else first.
TEST(EngineMemlock, TheLimitIsNamedAndTheMemoryWorksUnregistered) {
  Scratch scratch;
  std::string result = in_child([&]() -> std::string {
    rlimit limit{.rlim_cur = 4 << 20, .rlim_max = 4 << 20};
    ::setrlimit(RLIMIT_MEMLOCK, &limit);
    auto engine = Engine::create({.backend = BackendKind::kIoUring, .queue_depth = 4});
    if (!engine) return "skip: " + engine.error().message();
    auto file = File::create(scratch / "x", {.size_bytes = 1 << 20});
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return "setresuid failed";
    // The ring checks the rights of the process that made it: a new one is needed.
    engine = Engine::create({.backend = BackendKind::kIoUring, .queue_depth = 4});
    if (!engine) return "skip: " + engine.error().message();
    Buffer memory = Buffer::allocate(64 << 20);
    auto registered = (*engine)->register_memory(memory.first(64 << 20));
    if (registered) return "64 MiB were locked under a limit of 4 MiB";
    std::string message = registered.error().message();
    if (registered.error().kind != ErrorKind::kNoMemory ||
        message.find("RLIMIT_MEMLOCK") == std::string::npos ||
        message.find("67108864 bytes") == std::string::npos) {
      return message;
    }
    registered = (*engine)->register_memory(memory.first(65536));
    if (!registered) return "64 KiB: " + registered.error().message();
    (*engine)->unregister_memory(memory.first(65536));
    return moves_bytes(**engine, file);
  });
  if (result.rfind("skip", 0) == 0) GTEST_SKIP() << result;
  EXPECT_EQ(result, "");
}

TEST(EngineDescriptors, NoneLeftIsNamedAndAutoFallsBack) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer's own checks of an object's type need a pipe, and none is left";
#endif
  Scratch scratch;
  EXPECT_EQ(in_child([&]() -> std::string {
              auto file = File::create(scratch / "early", {});
              rlimit limit{.rlim_cur = static_cast<rlim_t>(file->fd()) + 1, .rlim_max = 4096};
              ::setrlimit(RLIMIT_NOFILE, &limit);
              auto named = Engine::create({.backend = BackendKind::kIoUring, .queue_depth = 4});
              if (named) return "a ring without a descriptor";
              if (named.error().kind != ErrorKind::kNoMemory &&
                  named.error().kind != ErrorKind::kUnsupported) {
                return named.error().message();
              }
              auto automatic = Engine::create({.queue_depth = 4});
              if (!automatic) return automatic.error().message();
              return (*automatic)->choice().rfind("threads: io_uring_setup", 0) == 0
                         ? ""
                         : (*automatic)->choice();
            }),
            "");
}

TEST(EngineThreads, TooManyIsAnErrorThatNamesTheOption) {
  std::string result = in_child([&]() -> std::string {
    rlimit limit{.rlim_cur = 20, .rlim_max = 20};
    ::setrlimit(RLIMIT_NPROC, &limit);
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return "setresuid failed";
    auto engine = Engine::create({.backend = BackendKind::kThreadPool, .queue_depth = 100});
    if (engine) return "100 threads under a limit of 20";
    return engine.error().message().find("queue_depth") != std::string::npos
               ? ""
               : engine.error().message();
  });
  EXPECT_EQ(result, "");
}

// Row 20. Answers `errno_value` to `system_call` from here on.
bool forbid(unsigned system_call, unsigned errno_value) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, system_call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errno_value),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter{.len = 4, .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

class NoIoUring : public ::testing::TestWithParam<int> {};

TEST_P(NoIoUring, AutoFallsBackAndSaysWhyAndTheNamedEngineFails) {
  Scratch scratch;
  std::string result = in_child([&]() -> std::string {
    if (!forbid(__NR_io_uring_setup, static_cast<unsigned>(GetParam()))) {
      return "skip: no seccomp filter can be set here";
    }
    auto named = Engine::create({.backend = BackendKind::kIoUring});
    if (named) return "io_uring was made though forbidden";
    if (named.error().message().find("seccomp") == std::string::npos) {
      return named.error().message();
    }
    auto automatic = Engine::create({.queue_depth = 4});
    if (!automatic) return automatic.error().message();
    if ((*automatic)->choice() != "threads: " + named.error().message()) {
      return "choice: " + (*automatic)->choice();
    }
    Capability io_uring = probe_kernel().front();
    if (io_uring.available || io_uring.reason.find("seccomp") == std::string::npos ||
        io_uring.fix.empty()) {
      return "probe: " + io_uring.reason;
    }
    return moves_bytes(**automatic, File::create(scratch / "x", {.size_bytes = 1 << 20}));
  });
  if (result.rfind("skip", 0) == 0) GTEST_SKIP() << result;
  EXPECT_EQ(result, "");
}

INSTANTIATE_TEST_SUITE_P(Errno, NoIoUring, ::testing::Values(EPERM, ENOSYS),
                         [](const auto& info) { return info.param == EPERM ? "EPERM" : "ENOSYS"; });

// tmpfs takes O_DIRECT, at any alignment, and says none of its own.
TEST(Tmpfs, MovesTheSameBytes) {
  struct statfs filesystem {};
  if (::statfs("/dev/shm", &filesystem) != 0 || filesystem.f_type != 0x01021994) {
    GTEST_SKIP() << "/dev/shm is no tmpfs here";
  }
  const std::string path = "/dev/shm/spillway-test-" + std::to_string(::getpid());
  for (Direct direct : {Direct::kAuto, Direct::kOff}) {
    for (BackendKind kind : {BackendKind::kAuto, BackendKind::kThreadPool}) {
      std::string failure;
      auto engine = make(kind, failure);
      ASSERT_NE(engine, nullptr) << failure;
      auto file = File::create(path, {.size_bytes = 3 << 20, .direct = direct});
      EXPECT_EQ(moves_bytes(*engine, file), "");
      if (file) {
        EXPECT_TRUE(file->remove());
      }
    }
  }
}

// A kernel before 6.1 answers EINVAL to the newest flags; one before 5.19 knows no sparse tables.
TEST(OldKernel, WithoutRegistrationEverythingWorksUnregistered) {
  Scratch scratch;
  std::string result = in_child([&]() -> std::string {
    if (!forbid(__NR_io_uring_register, EINVAL)) return "skip: no seccomp filter can be set here";
    auto engine = Engine::create({.backend = BackendKind::kIoUring, .queue_depth = 4});
    if (!engine) return "skip: " + engine.error().message();
    Buffer memory = Buffer::allocate(65536);
    auto registered = (*engine)->register_memory(memory.first(65536));
    if (registered) return "registered though the kernel refuses";
    if (registered.error().kind != ErrorKind::kUnsupported) return registered.error().message();
    return moves_bytes(**engine, File::create(scratch / "x", {.size_bytes = 1 << 20}));
  });
  if (result.rfind("skip", 0) == 0) GTEST_SKIP() << result;
  EXPECT_EQ(result, "");
}

}  // namespace
}  // namespace spillway::aio
