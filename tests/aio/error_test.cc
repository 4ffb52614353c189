#include <gtest/gtest.h>
#include <spillway/aio/buffer.h>
#include <spillway/aio/check.h>
#include <spillway/aio/error.h>

#include <cerrno>
#include <utility>

namespace spillway {
namespace {

TEST(Error, TheMessageIsOneLineWithAllThatIsKnown) {
  Error error;
  error.kind = ErrorKind::kNoSpace;
  error.operation = "write";
  error.path = "/data/x";
  error.offset = 4096;
  error.wanted = 65536;
  error.got = 512;
  error.errno_value = ENOSPC;
  EXPECT_EQ(error.message(),
            "write /data/x at 4096: wanted 65536 bytes, got 512: No space left on device");
  error.detail = "12 GiB are free";
  EXPECT_EQ(error.message(),
            "write /data/x at 4096: wanted 65536 bytes, got 512: No space left on device (12 GiB "
            "are free)");
}

TEST(Error, WithoutTransferOrErrnoItNamesTheKind) {
  auto error = make_error(ErrorKind::kUnsupported, "open", "/x", "direct I/O is required").value();
  EXPECT_EQ(error.message(), "open /x: not supported here (direct I/O is required)");
  EXPECT_EQ(make_error(ErrorKind::kDeadline, "wait", "", "").value().message(),
            "wait: the deadline passed");
}

TEST(Error, ADetailThatSaysNothingNewIsNotRepeated) {
  EXPECT_EQ(make_error(ErrorKind::kDeadline, "wait", "", "the deadline passed").value().message(),
            "wait: the deadline passed");
  EXPECT_EQ(errno_error("open", "/x", ENOENT, "No such file or directory").value().message(),
            "open /x: No such file or directory");
}

TEST(Error, NothingInAPathBreaksTheLine) {
  auto error = errno_error("open", "/a\nb\tc", ENOENT).value();
  EXPECT_EQ(error.message(), "open /a?b?c: No such file or directory");
}

TEST(Error, AnUnknownErrnoIsStillNamed) {
  EXPECT_EQ(errno_error("read", "/x", 4095).value().message(), "read /x: errno 4095");
}

TEST(Error, KindsFollowTheErrno) {
  const std::pair<int, ErrorKind> expected[] = {
      {EIO, ErrorKind::kIo},           {ENOSPC, ErrorKind::kNoSpace},
      {EDQUOT, ErrorKind::kNoSpace},   {EFBIG, ErrorKind::kNoSpace},
      {ENOENT, ErrorKind::kNotFound},  {EACCES, ErrorKind::kPermission},
      {EROFS, ErrorKind::kPermission}, {ECANCELED, ErrorKind::kCancelled},
      {EEXIST, ErrorKind::kBusy},      {ENOMEM, ErrorKind::kNoMemory},
      {EMFILE, ErrorKind::kNoMemory},  {ENOSYS, ErrorKind::kUnsupported},
      {EINVAL, ErrorKind::kInvalid},   {ETIMEDOUT, ErrorKind::kDeadline}};
  for (auto [errno_value, kind] : expected) EXPECT_EQ(kind_of_errno(errno_value), kind);
}

TEST(CheckDeathTest, SaysPlaceAndReasonAndAborts) {
  EXPECT_EXIT(SPILLWAY_CHECK(1 + 1 == 3, "numbers must add up"), ::testing::KilledBySignal(SIGABRT),
              "error_test.cc:[0-9]+: numbers must add up .*1 \\+ 1 == 3");
}

TEST(Buffer, IsGivenBackExactlyOnce) {
  struct Owner {
    int times = 0;
    std::byte* data = nullptr;
    std::size_t capacity = 0;
  } owner;
  std::byte memory[16];
  auto release = [](void* o, std::byte* data, std::size_t capacity) noexcept {
    auto* seen = static_cast<Owner*>(o);
    ++seen->times;
    seen->data = data;
    seen->capacity = capacity;
  };
  {
    aio::Buffer first(memory, sizeof memory, release, &owner);
    aio::Buffer second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT: that it is empty is what is tested
    aio::Buffer third;
    third = std::move(second);
    EXPECT_EQ(third.data(), memory);
    EXPECT_EQ(third.first(4).size(), 4u);
    EXPECT_EQ(owner.times, 0);
  }
  EXPECT_EQ(owner.times, 1);
  EXPECT_EQ(owner.data, memory);
  EXPECT_EQ(owner.capacity, sizeof memory);
  aio::Buffer overwritten(memory, sizeof memory, release, &owner);
  overwritten = aio::Buffer();
  EXPECT_EQ(owner.times, 2);
  aio::Buffer lost(memory, sizeof memory, release, &owner);
  lost.leak();
  EXPECT_FALSE(lost);
  EXPECT_EQ(owner.times, 2);
}

TEST(Buffer, HeapMemoryIsAligned) {
  for (std::size_t alignment : {1u, 512u, 4096u, 65536u}) {
    aio::Buffer buffer = aio::Buffer::allocate(100, alignment);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment, 0u);
    EXPECT_EQ(buffer.capacity(), 100u);
    buffer.data()[99] = std::byte{1};
  }
}

}  // namespace
}  // namespace spillway
