// Priorities, cancellation and deadlines over every Backend, by the bytes: whatever the order and
// however a request ends, what it counts as moved is there, and nothing else was touched.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "conformance/backends.h"
#include "support/scratch.h"
#include "support/seed.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;
using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kBlock = 16384;
constexpr std::size_t kPart = 8 * kBlock;  // each request has a part of the file to itself
constexpr std::size_t kParts = 24;

class EngineEndings : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  void SetUp() override {
    auto engine = Engine::create({.block_size_bytes = kBlock, .queue_depth = 4, .thread_count = 2},
                                 GetParam().factory());
    if (!engine) GTEST_SKIP() << engine.error().message();
    engine_ = std::move(*engine);
    auto file = File::create(scratch_ / "data", {.size_bytes = kParts * kPart});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
  }

  static Bytes contents_of(std::size_t part, unsigned version) {
    Bytes bytes(kPart);
    std::mt19937_64 random(part * 16 + version);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() >> 8);
    return bytes;
  }

  Ticket start(Direction direction, std::size_t part, const Engine::Request& how,
               unsigned version) {
    Engine::Request request = how;
    request.file = &*file_;
    request.offset = part * kPart;
    request.size_bytes = kPart;
    Buffer buffer = Buffer::allocate(kPart);
    if (direction == Direction::kRead) {
      std::memset(buffer.data(), 0xee, kPart);
      return engine_->read(request, std::move(buffer));
    }
    Bytes bytes = contents_of(part, version);
    std::copy(bytes.begin(), bytes.end(), buffer.data());
    return engine_->write(request, std::move(buffer));
  }

  void write_all(unsigned version) {
    for (std::size_t part = 0; part < kParts; ++part) {
      auto done = start(Direction::kWrite, part, {}, version).wait();
      ASSERT_TRUE(done.transferred) << done.transferred.error().message();
    }
  }

  Bytes plain_contents() {
    std::ifstream file(scratch_ / "data", std::ios::binary);
    Bytes bytes(kParts * kPart);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }

  Scratch scratch_;
  std::unique_ptr<Engine> engine_;
  std::optional<File> file_;
  std::mt19937_64 random_{test_seed(21)};
};

TEST_P(EngineEndings, UrgentAndNormalRequestsMixedMoveTheirOwnBytes) {
  ASSERT_NO_FATAL_FAILURE(write_all(1));
  std::vector<Ticket> tickets;
  for (std::size_t part = 0; part < kParts; ++part) {
    Engine::Request how{.priority = part % 3 == 0 ? Priority::kUrgent : Priority::kNormal};
    tickets.push_back(start(part % 2 == 0 ? Direction::kRead : Direction::kWrite, part, how, 2));
    if (part % 5 == 0) tickets[part / 2].expedite();
  }
  for (std::size_t part = 0; part < kParts; ++part) {
    Completion done = tickets[part].wait();
    ASSERT_TRUE(done.transferred) << done.transferred.error().message();
    Bytes expected = contents_of(part, part % 2 == 0 ? 1 : 2);
    EXPECT_EQ(std::memcmp(done.buffer.data(), expected.data(), kPart), 0) << part;
  }
  Bytes now = plain_contents();
  for (std::size_t part = 0; part < kParts; ++part) {
    Bytes expected = contents_of(part, part % 2 == 0 ? 1 : 2);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), now.begin() + long(part * kPart)));
  }
}

TEST_P(EngineEndings, ACancelledRequestCountsWhatIsThereAndTouchesNothingElse) {
  ASSERT_NO_FATAL_FAILURE(write_all(1));
  std::vector<Ticket> tickets;
  for (std::size_t part = 0; part < kParts; ++part) {
    tickets.push_back(start(part % 2 == 0 ? Direction::kRead : Direction::kWrite, part, {}, 2));
  }
  for (Ticket& ticket : tickets) {
    if (random_() % 3 != 0) ticket.cancel();
  }
  for (std::size_t part = 0; part < kParts; ++part) {
    SCOPED_TRACE("part " + std::to_string(part));
    Completion done = tickets[part].wait();
    ASSERT_TRUE(done.buffer);
    std::size_t moved = kPart;
    if (!done.transferred) {
      EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
      moved = done.transferred.error().got;
      ASSERT_LE(moved, kPart);
    }
    const Bytes old = contents_of(part, 1);
    const Bytes fresh = contents_of(part, 2);
    if (part % 2 == 0) {
      EXPECT_EQ(std::memcmp(done.buffer.data(), old.data(), moved), 0);
      continue;
    }
    const Bytes all = plain_contents();
    const auto now = all.begin() + long(part * kPart);
    EXPECT_TRUE(std::equal(fresh.begin(), fresh.begin() + long(moved), now));
    for (std::size_t i = moved; i < kPart; ++i) {
      ASSERT_TRUE(now[long(i)] == old[i] || now[long(i)] == fresh[i]) << i;
    }
  }
  ASSERT_NO_FATAL_FAILURE(write_all(3));  // the engine goes on
}

TEST_P(EngineEndings, ADeadlineEndsARequestAndItsMemoryIsNotUsedTwice) {
  ASSERT_NO_FATAL_FAILURE(write_all(1));
  for (auto allowed : {-1ms, 0ms, 1ms, 60'000ms}) {
    std::vector<Ticket> tickets;
    for (std::size_t part = 0; part < kParts; ++part) {
      tickets.push_back(start(Direction::kRead, part,
                              {.deadline = std::chrono::steady_clock::now() + allowed}, 0));
    }
    for (std::size_t part = 0; part < kParts; ++part) {
      Completion done = tickets[part].wait();
      Bytes expected = contents_of(part, 1);
      if (done.transferred) {
        EXPECT_EQ(std::memcmp(done.buffer.data(), expected.data(), kPart), 0) << part;
      } else {
        EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
        EXPECT_LT(allowed, 60'000ms) << "nothing here takes a minute";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EngineEndings, ::testing::ValuesIn(kBackends),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace spillway::aio
