// What every user of an Engine relies on, over every Backend, against a model in RAM.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <tuple>

#include "conformance/backends.h"
#include "support/scratch.h"
#include "support/seed.h"

namespace spillway::aio {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kBlock = 16384;

struct Setting {
  const char* name;
  std::uint32_t thread_count;
  std::uint32_t queue_depth;
  bool single_submit;
};

constexpr Setting kSettings[] = {
    {"one_thread", 1, 8, false}, {"three_threads", 3, 4, false}, {"depth_one_single", 1, 1, true}};

class EngineConformance
    : public ::testing::TestWithParam<std::tuple<BackendUnderTest, Setting, Direct>> {
 protected:
  void SetUp() override {
    auto [backend, setting, direct] = GetParam();
    options_ = {.block_size_bytes = kBlock,
                .queue_depth = setting.queue_depth,
                .thread_count = setting.thread_count,
                .single_submit = setting.single_submit};
    auto engine = Engine::create(options_, backend.factory());
    if (!engine)
      GTEST_SKIP() << "this machine has no " << backend.name << ": " << engine.error().message();
    engine_ = std::move(*engine);
    file_.emplace(create("data", 0));
  }

  File create(const std::string& name, std::uint64_t size_bytes) {
    auto file = File::create(scratch_ / name,
                             {.size_bytes = size_bytes, .direct = std::get<Direct>(GetParam())});
    EXPECT_TRUE(file) << file.error().message();
    return std::move(*file);
  }

  Bytes random_bytes(std::size_t n) {
    Bytes bytes(n);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random_());
    return bytes;
  }

  void write(std::uint64_t offset, const Bytes& bytes, std::size_t buffer_offset) {
    Buffer buffer = Buffer::allocate(buffer_offset + bytes.size());
    std::copy(bytes.begin(), bytes.end(), buffer.data() + buffer_offset);
    Completion done = engine_
                          ->write({.file = &*file_,
                                   .offset = offset,
                                   .size_bytes = bytes.size(),
                                   .buffer_offset = buffer_offset},
                                  std::move(buffer))
                          .wait();
    ASSERT_TRUE(done.transferred) << done.transferred.error().message();
    ASSERT_EQ(*done.transferred, bytes.size());
  }

  // Also that nothing around the wanted bytes is touched.
  Bytes read(std::uint64_t offset, std::size_t size_bytes, std::size_t buffer_offset) {
    constexpr std::byte kUntouched{0xa5};
    Buffer buffer = Buffer::allocate(buffer_offset + size_bytes + 64);
    std::memset(buffer.data(), static_cast<int>(kUntouched), buffer.capacity());
    Completion done = engine_
                          ->read({.file = &*file_,
                                  .offset = offset,
                                  .size_bytes = size_bytes,
                                  .buffer_offset = buffer_offset},
                                 std::move(buffer))
                          .wait();
    EXPECT_TRUE(done.transferred) << done.transferred.error().message();
    const std::byte* data = done.buffer.data();
    auto touched = [&](std::byte b) { return b != kUntouched; };
    EXPECT_EQ(std::count_if(data, data + buffer_offset, touched), 0);
    EXPECT_EQ(std::count_if(data + buffer_offset + size_bytes,
                            data + buffer_offset + size_bytes + 64, touched),
              0);
    return {data + buffer_offset, data + buffer_offset + size_bytes};
  }

  Bytes plain_contents(const File& file) {
    Bytes bytes(std::filesystem::file_size(file.path()));
    int fd = ::open(file.path().c_str(), O_RDONLY);
    EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    ::close(fd);
    return bytes;
  }

  Scratch scratch_;
  EngineOptions options_;
  std::unique_ptr<Engine> engine_;
  std::optional<File> file_;
  std::mt19937_64 random_{test_seed(5)};
};

TEST_P(EngineConformance, EverySizeAndOffsetIsExactAndGrowsTheFileByNoMore) {
  Bytes model;
  for (std::size_t size_bytes : {0u, 1u, 511u, 512u, 513u, 4095u, 4096u, 4097u, kBlock - 1, kBlock,
                                 kBlock + 1, 3 * kBlock + 17, 40 * kBlock + 5}) {
    for (std::uint64_t offset : {0u, 1u, 511u, 512u, 4096u, 4097u, kBlock - 1, 3 * kBlock}) {
      std::size_t buffer_offset = std::array{0, 1, 512, 4096}[random_() % 4];
      Bytes bytes = random_bytes(size_bytes);
      ASSERT_NO_FATAL_FAILURE(write(offset, bytes, buffer_offset)) << size_bytes << "@" << offset;
      if (size_bytes > 0) model.resize(std::max(model.size(), offset + size_bytes));
      std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
      ASSERT_EQ(plain_contents(*file_), model) << size_bytes << "@" << offset;
      if (offset + size_bytes <= model.size()) {
        ASSERT_EQ(read(offset, size_bytes, buffer_offset), bytes) << size_bytes << "@" << offset;
      }
    }
  }
}

TEST_P(EngineConformance, RandomReadsAndWritesMatchTheModel) {
  constexpr std::size_t kFileBytes = 1 << 20;
  file_.emplace(create("fixed", kFileBytes));
  Bytes model(kFileBytes);
  for (int i = 0; i < 150; ++i) {
    std::uint64_t offset = random_() % kFileBytes;
    std::size_t size_bytes = random_() % std::min<std::size_t>(kFileBytes - offset, 9 * kBlock);
    std::size_t buffer_offset = random_() % 2 == 0 ? 0 : random_() % 5000;
    if (random_() % 3 == 0) offset &= ~std::uint64_t{4095};
    if (random_() % 2 == 0) {
      Bytes bytes = random_bytes(size_bytes);
      ASSERT_NO_FATAL_FAILURE(write(offset, bytes, buffer_offset));
      std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
    } else {
      auto from = model.begin() + static_cast<std::ptrdiff_t>(offset);
      ASSERT_EQ(read(offset, size_bytes, buffer_offset),
                Bytes(from, from + static_cast<std::ptrdiff_t>(size_bytes)));
    }
  }
  EXPECT_EQ(plain_contents(*file_), model);
}

TEST_P(EngineConformance, ManyThreadsSubmitAtOnce) {
  constexpr std::size_t kThreads = 6;
  constexpr std::size_t kShare = 16 * kBlock + 4096;
  file_.emplace(create("shared", kThreads * kShare));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int round = 0; round < 5; ++round) {
        Buffer buffer = Buffer::allocate(kShare);
        for (std::size_t i = 0; i < kShare; ++i)
          buffer.data()[i] = static_cast<std::byte>(random());
        Bytes expected(buffer.data(), buffer.data() + kShare);
        Engine::Request all{.file = &*file_, .offset = t * kShare, .size_bytes = kShare};
        Completion done = engine_->write(all, std::move(buffer)).wait();
        if (!done.transferred) ++wrong;
        std::memset(done.buffer.data(), 0, kShare);
        done = engine_->read(all, std::move(done.buffer)).wait();
        if (!done.transferred || std::memcmp(done.buffer.data(), expected.data(), kShare) != 0) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// Extending writes side by side: the padding of one must never cost the other its bytes.
TEST_P(EngineConformance, UnalignedWritesThatExtendTheFileAtOnceLoseNothing) {
  for (int round = 0; round < 20; ++round) {
    file_.emplace(create("grow" + std::to_string(round), 0));
    Bytes model;
    std::vector<Ticket> tickets;
    for (std::uint64_t i = 0; i < 8; ++i) {
      // Each ends inside a 4096-byte block that no other touches.
      std::size_t size_bytes = 1 + random_() % 8000;
      std::uint64_t offset = i * 12288;
      Bytes bytes = random_bytes(size_bytes);
      model.resize(std::max<std::size_t>(model.size(), offset + size_bytes));
      std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
      Buffer buffer = Buffer::allocate(size_bytes);
      std::copy(bytes.begin(), bytes.end(), buffer.data());
      tickets.push_back(engine_->write(
          {.file = &*file_, .offset = offset, .size_bytes = size_bytes}, std::move(buffer)));
    }
    for (Ticket& ticket : tickets) {
      Completion done = ticket.wait();
      ASSERT_TRUE(done.transferred) << done.transferred.error().message();
    }
    ASSERT_EQ(plain_contents(*file_), model);
  }
}

TEST_P(EngineConformance, RegisteredMemoryAndFileGiveTheSameBytes) {
  constexpr std::size_t kBytes = 20 * kBlock;
  Buffer memory = Buffer::allocate(2 * kBytes);
  auto registered = engine_->register_memory(memory.first(kBytes));
  ASSERT_TRUE(registered) << registered.error().message();
  engine_->register_file(*file_);
  Bytes expected = random_bytes(2 * kBytes);
  std::copy(expected.begin(), expected.end(), memory.data());
  Engine::Request all{.file = &*file_, .size_bytes = 2 * kBytes};
  auto done = engine_->write(all, Buffer::borrow(memory.first(2 * kBytes))).wait();
  ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  EXPECT_EQ(plain_contents(*file_), expected);
  std::memset(memory.data(), 0, memory.capacity());
  done = engine_->read(all, Buffer::borrow(memory.first(2 * kBytes))).wait();
  ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  EXPECT_EQ(std::memcmp(memory.data(), expected.data(), expected.size()), 0);
  engine_->unregister_memory(memory.first(kBytes));
  engine_->unregister_file(*file_);
  EXPECT_EQ(read(7, kBytes, 3), Bytes(expected.begin() + 7, expected.begin() + 7 + kBytes));
}

// A descriptor's number comes back after close; the registration of the old file must not.
TEST_P(EngineConformance, AForgottenFileRegistrationNeverReachesAnotherFile) {
  engine_->register_file(*file_);
  ASSERT_NO_FATAL_FAILURE(write(0, Bytes(4096, std::byte{1}), 0));
  int old_fd = file_->fd();
  file_.reset();
  file_.emplace(create("second", 0));
  ASSERT_EQ(file_->fd(), old_fd) << "the test needs the number to come back";
  ASSERT_NO_FATAL_FAILURE(write(0, Bytes(4096, std::byte{2}), 0));
  EXPECT_EQ(plain_contents(*file_), Bytes(4096, std::byte{2}));
  engine_->register_file(*file_);
  ASSERT_NO_FATAL_FAILURE(write(0, Bytes(4096, std::byte{3}), 0));
  EXPECT_EQ(plain_contents(*file_), Bytes(4096, std::byte{3}));
}

TEST_P(EngineConformance, CallbacksRunOnceOnAnEngineThreadAndMaySubmit) {
  constexpr int kChain = 50;
  std::atomic<int> calls{0};
  std::atomic<int> failures{0};
  std::promise<void> end;
  std::set<std::thread::id> threads;
  std::function<void(Completion)> next = [&](Completion done) {
    if (!done.transferred) ++failures;
    threads.insert(std::this_thread::get_id());
    int n = ++calls;
    if (n == kChain) return end.set_value();
    engine_->write({.file = &*file_,
                    .offset = static_cast<std::uint64_t>(n) * 4096,
                    .size_bytes = n % 5 == 0 ? 0u : 4096u},
                   std::move(done.buffer), next);
  };
  engine_->write({.file = &*file_, .size_bytes = 4096}, Buffer::allocate(4096), next);
  end.get_future().wait();
  EXPECT_EQ(calls, kChain);
  EXPECT_EQ(failures, 0);
  EXPECT_FALSE(threads.contains(std::this_thread::get_id()));
}

TEST_P(EngineConformance, FarMoreRequestsThanItsQueuesHold) {
  constexpr std::size_t kRequests = 2500;
  file_.emplace(create("many", kRequests * 4096));
  std::vector<Ticket> tickets;
  for (std::size_t i = 0; i < kRequests; ++i) {
    Buffer buffer = Buffer::allocate(4096);
    std::memset(buffer.data(), static_cast<int>(i % 251), 4096);
    tickets.push_back(engine_->write({.file = &*file_, .offset = i * 4096, .size_bytes = 4096},
                                     std::move(buffer)));
  }
  for (Ticket& ticket : tickets) ASSERT_TRUE(ticket.wait().transferred);
  Bytes contents = plain_contents(*file_);
  for (std::size_t i = 0; i < kRequests; ++i) {
    ASSERT_EQ(contents[i * 4096 + i % 4096], static_cast<std::byte>(i % 251)) << i;
  }
}

// What the error counts as read is there, also where the bytes went through a bounce buffer.
TEST_P(EngineConformance, ReadingPastTheEndSaysWhereTheFileEndsAndGivesTheBytesBeforeIt) {
  const Bytes model = random_bytes(5 * kBlock + 100);
  ASSERT_NO_FATAL_FAILURE(write(0, model, 0));
  for (std::size_t offset : {4096u, 4099u}) {
    for (std::size_t buffer_offset : {0u, 3u}) {
      SCOPED_TRACE(std::to_string(offset) + " into " + std::to_string(buffer_offset));
      Buffer buffer = Buffer::allocate(6 * kBlock + buffer_offset);
      std::memset(buffer.data(), 0, buffer.capacity());
      Completion done = engine_
                            ->read({.file = &*file_,
                                    .offset = offset,
                                    .size_bytes = 6 * kBlock,
                                    .buffer_offset = buffer_offset},
                                   std::move(buffer))
                            .wait();
      ASSERT_FALSE(done.transferred);
      ASSERT_EQ(done.buffer.capacity(), 6 * kBlock + buffer_offset) << "it comes back all the same";
      const Error& error = done.transferred.error();
      EXPECT_EQ(error.kind, ErrorKind::kShortTransfer);
      EXPECT_EQ(error.offset, offset);
      EXPECT_EQ(error.wanted, 6 * kBlock);
      ASSERT_EQ(error.got, model.size() - offset);
      EXPECT_EQ(std::memcmp(done.buffer.data() + buffer_offset, model.data() + offset, error.got),
                0);
    }
  }
}

// To the kernel offsets are signed. Without O_DIRECT, -1 is io_uring's "at the file's position":
// byte 0.
TEST_P(EngineConformance, AnOffsetThatNoFileHasIsRefusedBeforeAnythingMoves) {
  const Bytes before = random_bytes(3 * 4096 + 5);
  write(0, before, 0);
  struct Place {
    std::uint64_t offset;
    std::size_t size_bytes;
  };
  for (const Place place : {Place{UINT64_MAX, 1},
                            {UINT64_MAX - 4095, 4096},
                            {UINT64_MAX, 4096},
                            {std::uint64_t{INT64_MAX} + 1, 0},
                            {INT64_MAX, 1},
                            {INT64_MAX - 4095, 4097},
                            {0, SIZE_MAX / 2 + 1}}) {
    SCOPED_TRACE(std::to_string(place.offset) + " + " + std::to_string(place.size_bytes));
    for (const bool writing : {false, true}) {
      // The length may be a lie: the memory is never looked at.
      Bytes memory(8192, std::byte{0x5a});
      Buffer buffer = Buffer::borrow({memory.data(), std::max<std::size_t>(place.size_bytes, 1)});
      const Engine::Request request{
          .file = &*file_, .offset = place.offset, .size_bytes = place.size_bytes};
      Completion done = (writing ? engine_->write(request, std::move(buffer))
                                 : engine_->read(request, std::move(buffer)))
                            .wait();
      ASSERT_FALSE(done.transferred) << "moved " << *done.transferred;
      EXPECT_EQ(done.transferred.error().kind, ErrorKind::kInvalid);
      EXPECT_EQ(done.transferred.error().got, 0u);
      EXPECT_NE(done.transferred.error().message().find("a file ends at"), std::string::npos)
          << done.transferred.error().message();
      EXPECT_EQ(done.buffer.data(), memory.data());
      EXPECT_EQ(memory, Bytes(8192, std::byte{0x5a}));
    }
  }
  EXPECT_EQ(plain_contents(*file_), before);
  EXPECT_EQ(engine_->stats().written_bytes, before.size());
}

TEST_P(EngineConformance, CountsWhatItMoves) {
  ASSERT_NO_FATAL_FAILURE(write(0, random_bytes(10 * kBlock), 0));
  read(0, 10 * kBlock, 0);
  EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.written_bytes, 10u * kBlock);
  EXPECT_EQ(stats.read_bytes, 10u * kBlock);
  EXPECT_GE(stats.read_operations, 10u);
  EXPECT_GE(stats.write_operations, 10u);
  EXPECT_GT(stats.system_calls, 0u);
}

std::string name_of(const ::testing::TestParamInfo<EngineConformance::ParamType>& info) {
  auto [backend, setting, direct] = info.param;
  return std::string(backend.name) + "_" + setting.name +
         (direct == Direct::kOff ? "_page_cache" : "");
}

INSTANTIATE_TEST_SUITE_P(Direct, EngineConformance,
                         ::testing::Combine(::testing::ValuesIn(kBackends),
                                            ::testing::ValuesIn(kSettings),
                                            ::testing::Values(Direct::kAuto)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(PageCache, EngineConformance,
                         ::testing::Combine(::testing::ValuesIn(kBackends),
                                            ::testing::Values(kSettings[0]),
                                            ::testing::Values(Direct::kOff)),
                         name_of);

}  // namespace
}  // namespace spillway::aio
