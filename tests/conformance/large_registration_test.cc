// Registered memory of more than one registration can hold (1 GiB), with the kernel itself.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <sys/mman.h>

#include <cstring>

#include "support/scratch.h"

namespace spillway::aio {
namespace {

constexpr std::size_t kGiB = std::size_t{1} << 30;
constexpr std::size_t kBytes = kGiB + (1 << 20);
constexpr std::uint32_t kBlock = 1 << 16;

TEST(LargeRegistration, MovesBytesInEverySlotAndAcrossTheirBorder) {
  void* mapped =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) GTEST_SKIP() << "1 GiB of memory cannot be had";
  std::span<std::byte> memory(static_cast<std::byte*>(mapped), kBytes);
  {
    auto engine = Engine::create({.backend = BackendKind::kIoUring, .block_size_bytes = kBlock});
    if (!engine) GTEST_SKIP() << engine.error().message();
    auto registered = (*engine)->register_memory(memory);
    if (!registered) GTEST_SKIP() << registered.error().message();
    Scratch scratch;
    auto file = File::create(scratch / "x", {.size_bytes = 4 * kBlock});
    ASSERT_TRUE(file);
    // Inside the first slot, across the border (at an odd number of pages), inside the second.
    for (std::size_t at : {std::size_t{0}, kGiB - kBlock - 4096, kGiB + 4096}) {
      std::byte* data = memory.data() + at;
      for (std::size_t i = 0; i < 4 * kBlock; ++i) data[i] = std::byte(i * 13 + at / 4096);
      Engine::Request all{.file = &*file, .size_bytes = 4 * kBlock};
      auto done = (*engine)->write(all, Buffer::borrow({data, 4 * kBlock})).wait();
      ASSERT_TRUE(done.transferred) << done.transferred.error().message();
      std::memset(data, 0, 4 * kBlock);
      done = (*engine)->read(all, std::move(done.buffer)).wait();
      ASSERT_TRUE(done.transferred) << done.transferred.error().message();
      for (std::size_t i = 0; i < 4 * kBlock; ++i) {
        ASSERT_EQ(data[i], std::byte(i * 13 + at / 4096)) << at << " + " << i;
      }
    }
    (*engine)->unregister_memory(memory);
  }
  ::munmap(mapped, kBytes);
}

}  // namespace
}  // namespace spillway::aio
