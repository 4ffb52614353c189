// One request of more than 2 GiB, which no single read(2) moves (it stops at 2^31 - 4096 bytes): a
// file of holes with a mark on both sides of each border.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "support/scratch.h"

namespace spillway::aio {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::uint64_t kBytes = 2 * kGiB + (1 << 20) + 17;
constexpr std::uint64_t kMarks[] = {0,        kGiB - 1,  2 * kGiB - 4096, 2 * kGiB - 1,
                                    2 * kGiB, kBytes - 1};

std::uint64_t available_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string word; meminfo >> word;) {
    std::uint64_t kib = 0;
    if (word == "MemAvailable:" && meminfo >> kib) return kib * 1024;
  }
  return 0;
}

class LargeRequest : public ::testing::TestWithParam<BackendKind> {};

TEST_P(LargeRequest, OfMoreThan2GiBIsReadWhole) {
  if (available_bytes() < 4 * kGiB) GTEST_SKIP() << "wants 4 GiB of memory";
  auto engine = Engine::create({.backend = GetParam(), .block_size_bytes = 4 << 20});
  if (!engine) GTEST_SKIP() << engine.error().message();
  Scratch scratch;
  auto file = File::create(scratch / "holes", {});
  ASSERT_TRUE(file) << file.error().message();
  ASSERT_EQ(::ftruncate(file->fd(), static_cast<off_t>(kBytes)), 0);
  std::fstream plain(scratch / "holes", std::ios::in | std::ios::out | std::ios::binary);
  for (std::uint64_t mark : kMarks) plain.seekp(static_cast<std::streamoff>(mark)).put('x');
  ASSERT_TRUE(plain.flush());
  void* mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  std::span<std::byte> memory(static_cast<std::byte*>(mapped), kBytes);
  auto done =
      (*engine)->read({.file = &*file, .size_bytes = kBytes}, Buffer::borrow(memory)).wait();
  ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  EXPECT_EQ(*done.transferred, kBytes);
  for (std::uint64_t mark : kMarks) EXPECT_EQ(memory[mark], std::byte{'x'}) << mark;
  for (std::uint64_t at = 1; at + 4096 < kBytes; at += 4096) {
    ASSERT_EQ(memory[at], std::byte{0}) << at;
  }
  ::munmap(mapped, kBytes);
}

INSTANTIATE_TEST_SUITE_P(Backends, LargeRequest,
                         ::testing::Values(BackendKind::kIoUring, BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == BackendKind::kIoUring ? "io_uring" : "threads";
                         });

}  // namespace
}  // namespace spillway::aio
