// io_uring runs what it cannot start without blocking on worker threads of the kernel ("iou-wrk"):
// each costs a context switch per operation and CPU that nobody planned. The settings we recommend,
// and larger ones, need none over a real filesystem.
//
// What does need them (seen on Linux 6.18, ext4): every direct write that makes its file longer;
// writes through the page cache; more pieces in flight than the device has requests (a piece larger
// than its max_segments takes several). Allocated blocks that were never written need none, nor do
// pieces of up to 16 MiB in plain pages.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <sys/mman.h>

#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/child.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

constexpr std::size_t kRequest = std::size_t{16} << 20;
constexpr std::size_t kFileBytes = 2 * kRequest;

enum class Blocks { kWritten, kAllocated, kNone };

struct Case {
  const char* name;
  Direction direction;
  std::uint32_t block_size_bytes;
  std::uint32_t queue_depth;
  bool registered = true;
  Blocks blocks = Blocks::kWritten;
};
void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }

// An idle worker stays for some seconds, so that none is missed by looking afterwards.
int kernel_workers() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream file(task.path() / "comm");
    std::getline(file, name);
    count += name.starts_with("iou-wrk") ? 1 : 0;
  }
  return count;
}

std::string move_all(Engine& engine, const File& file, Direction direction, Buffer& memory) {
  std::deque<Ticket> tickets;
  for (std::size_t at = 0; at < kFileBytes; at += kRequest) {
    Engine::Request request{.file = &file, .offset = at, .size_bytes = kRequest};
    Buffer part = Buffer::borrow(memory.first(kFileBytes).subspan(at, kRequest));
    tickets.push_back(direction == Direction::kRead ? engine.read(request, std::move(part))
                                                    : engine.write(request, std::move(part)));
  }
  std::string failure;
  for (Ticket& ticket : tickets) {
    Completion done = ticket.wait();
    if (!done.transferred) failure = done.transferred.error().message();
  }
  return failure;
}

// How many workers the kernel made, as a number; or "skip: why"; or what went wrong.
std::string workers_after(const Case& tested, const std::filesystem::path& path) {
  auto engine = Engine::create({.backend = BackendKind::kIoUring,
                                .block_size_bytes = tested.block_size_bytes,
                                .queue_depth = tested.queue_depth});
  if (!engine) return "skip: " + engine.error().message();
  auto file = File::create(
      path, {.size_bytes = tested.blocks == Blocks::kNone ? 0 : kFileBytes, .overwrite = true});
  if (!file) return file.error().message();
  if (!file->direct()) return "skip: " + file->why_not_direct();
  Buffer memory = Buffer::allocate(kFileBytes);
  ::madvise(memory.data(), kFileBytes, MADV_NOHUGEPAGE);  // the harder case
  std::memset(memory.data(), 0x5a, kFileBytes);
  if (tested.registered) {
    auto known = (*engine)->register_memory(memory.first(kFileBytes));
    if (!known) return "skip: " + known.error().message();
  }
  std::string failure;
  if (tested.blocks == Blocks::kWritten) {
    auto threads = Engine::create({.backend = BackendKind::kThreadPool});
    failure = move_all(**threads, *file, Direction::kWrite, memory);
  }
  if (failure.empty()) failure = move_all(**engine, *file, tested.direction, memory);
  return failure.empty() ? std::to_string(kernel_workers()) : failure;
}

// In a process of its own: workers of an earlier case are still there.
std::string workers_of(const Case& tested) {
  Scratch scratch;
  return in_child([&] { return workers_after(tested, scratch / "data"); });
}

class KernelWorkers : public ::testing::TestWithParam<Case> {};

TEST_P(KernelWorkers, AreNotNeeded) {
  std::string workers;
  // Now and then a write meets a lock of the filesystem (a timestamp on its way to the journal) and
  // goes to a worker. What the settings themselves cause comes every time.
  for (int i = 0; i < 3 && workers != "0"; ++i) workers = workers_of(GetParam());
  if (workers.starts_with("skip")) GTEST_SKIP() << workers;
  EXPECT_EQ(workers, "0");
}

constexpr Case kCases[] = {
    {"read_128k_32", Direction::kRead, 128 << 10, 32},
    {"read_512k_32_unregistered", Direction::kRead, 512 << 10, 32, false},
    {"read_1m_32", Direction::kRead, 1 << 20, 32},
    {"read_16m_2_unregistered", Direction::kRead, 16 << 20, 2, false},
    {"write_128k_32", Direction::kWrite, 128 << 10, 32},
    {"write_512k_32_unregistered", Direction::kWrite, 512 << 10, 32, false},
    {"write_1m_32", Direction::kWrite, 1 << 20, 32},
    {"write_1m_32_allocated", Direction::kWrite, 1 << 20, 32, true, Blocks::kAllocated},
    {"write_16m_2_unregistered", Direction::kWrite, 16 << 20, 2, false},
};

INSTANTIATE_TEST_SUITE_P(Settings, KernelWorkers, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

// That the count above sees workers where there are some.
TEST(KernelWorkersOf, AFileThatGrowsAreSeen) {
  std::string workers = workers_of({"", Direction::kWrite, 1 << 20, 32, true, Blocks::kNone});
  if (workers.starts_with("skip")) GTEST_SKIP() << workers;
  if (workers == "0") GTEST_SKIP() << "this kernel needs no worker to make a file longer";
  EXPECT_GT(std::atoi(workers.c_str()), 0) << workers;
}

}  // namespace
}  // namespace spillway::aio
