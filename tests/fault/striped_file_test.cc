// A striped file of which one drive misbehaves: it has an engine, and a simulator, of its own.
// Whatever strikes, a request ends once, with exact bytes or an error that names the drive, and its
// Buffer comes back unless a device still has it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/aio/striped_file.h>
#include <sys/mman.h>

#include <atomic>
#include <future>
#include <thread>
#include <tuple>

#include "support/simulator.h"
#include "support/striped_fixture.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;
using testing::EndsWith;
using testing::HasSubstr;

class StripedFaults : public StripedFixture {
 protected:
  static constexpr std::uint64_t kFileBytes = 24 * kStripe;
  // Unaligned edges, and several stripes of both drives between them.
  static constexpr std::uint64_t kOffset = kStripe + 100;
  static constexpr std::size_t kSize = 9 * kStripe + 300;

  static inline std::atomic<int> outstanding_{0};  // Buffers not given back

  StripedFaults() : StripedFixture(31) { outstanding_ = 0; }

  // Mapped, so that memory lost on purpose is no leak to LeakSanitizer, and memory given back too
  // early is no memory to the device.
  static Buffer counted(std::size_t size_bytes) {
    ++outstanding_;
    void* memory =
        ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const auto release = [](void*, std::byte* data, std::size_t capacity) noexcept {
      --outstanding_;
      ::munmap(data, capacity);
    };
    return {static_cast<std::byte*>(memory), size_bytes, release, nullptr};
  }

  // Two equal drives; `options` are the second one's.
  void start(const SimulatorOptions& options) {
    const EngineOptions engine{.block_size_bytes = 8192, .queue_depth = 4, .drain_timeout = 100ms};
    good_ = std::make_shared<SimulatorControl>();
    bad_ = std::make_shared<SimulatorControl>(options);
    auto first = Engine::create(engine, simulator_backend(good_));
    auto second = Engine::create(engine, simulator_backend(bad_));
    ASSERT_TRUE(first && second);
    engine_ = std::move(*first);
    second_engine_ = std::move(*second);
    create({engine_.get(), second_engine_.get()}, {1, 1}, kFileBytes);
  }

  StripedTicket submit(Direction direction, std::uint64_t offset, std::size_t size_bytes) {
    Buffer buffer = counted(size_bytes);
    if (direction == Direction::kRead) {
      return file_->read({.offset = offset, .size_bytes = size_bytes}, std::move(buffer));
    }
    std::memcpy(buffer.data(), &model_[offset], size_bytes);
    return file_->write({.offset = offset, .size_bytes = size_bytes}, std::move(buffer));
  }

  // Everything as written but for what a failed write may have changed.
  void expect_untouched_outside(std::uint64_t offset, std::size_t size_bytes) {
    auto all = read(0, kFileBytes);
    ASSERT_TRUE(all) << all.error().message();
    const auto end = static_cast<std::ptrdiff_t>(offset + size_bytes);
    EXPECT_TRUE(std::equal(all->begin(), all->begin() + static_cast<std::ptrdiff_t>(offset),
                           model_.begin()));
    EXPECT_TRUE(std::equal(all->begin() + end, all->end(), model_.begin() + end));
  }

  std::shared_ptr<SimulatorControl> good_;
  std::shared_ptr<SimulatorControl> bad_;
};

// The Nth operation of the second drive, for every N until a run has no Nth operation.
TEST_F(StripedFaults, TheNthOperationFails) {
  start({});
  for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
    bool struck = true;
    for (std::uint64_t nth = 1; struck; ++nth) {
      SCOPED_TRACE("operation " + std::to_string(nth));
      const std::uint64_t before = bad_->faults();
      bad_->plan({.kind = FaultKind::kError, .nth = nth, .errno_value = EIO});
      const Bytes fresh = random_bytes(kSize);
      const Bytes old = std::exchange(model_, [&] {
        Bytes changed = model_;
        if (direction == Direction::kWrite) {
          std::copy(fresh.begin(), fresh.end(), changed.begin() + kOffset);
        }
        return changed;
      }());
      Completion done = submit(direction, kOffset, kSize).wait();
      ASSERT_TRUE(done.buffer);
      struck = bad_->faults() > before;
      bad_->clear();
      EXPECT_EQ(done.transferred.has_value(), !struck);
      std::size_t moved = kSize;
      if (!done.transferred) {
        const Error& error = done.transferred.error();
        EXPECT_EQ(error.kind, ErrorKind::kIo);
        EXPECT_THAT(error.path, EndsWith("d1/data"));
        EXPECT_EQ(error.offset, kOffset);
        EXPECT_EQ(error.wanted, kSize);
        ASSERT_LT(error.got, kSize);
        EXPECT_THAT(error.detail, HasSubstr("byte " + std::to_string(kOffset + error.got) +
                                            " of the striped file is at "));
        // It fails inside a stripe of the second drive.
        EXPECT_EQ((kOffset + error.got) / kStripe % 2, 1u);
        moved = error.got;
      }
      if (direction == Direction::kRead) {
        EXPECT_EQ(std::memcmp(done.buffer.data(), &model_[kOffset], moved), 0);
      } else {
        auto back = read(kOffset, moved);
        ASSERT_TRUE(back);
        EXPECT_EQ(*back, expected(kOffset, moved)) << "what the error counts as moved was not";
        expect_untouched_outside(kOffset, kSize);
        ASSERT_TRUE(write(kOffset, fresh));
      }
      expect_contents();
      ASSERT_LT(nth, 200u);
    }
  }
  EXPECT_GT(bad_->faults(), 10u);
  EXPECT_EQ(outstanding_, 0);
}

TEST_F(StripedFaults, ADeadDriveIsNamedAndTheOtherGoesOn) {
  start({});
  bad_->plan({.kind = FaultKind::kError, .forever = true, .errno_value = EIO});
  for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
    const Completion done = submit(direction, 0, kFileBytes).wait();
    ASSERT_FALSE(done.transferred);
    EXPECT_THAT(done.transferred.error().path, EndsWith("d1/data"));
    EXPECT_EQ(done.transferred.error().got, kStripe);
    const Completion good = submit(direction, 2 * kStripe, kStripe).wait();
    EXPECT_TRUE(good.transferred);
  }
  EXPECT_EQ(outstanding_, 0);
}

TEST_F(StripedFaults, ShortInterruptedAndReorderedTransfersMoveEveryByte) {
  start({.seed = test_seed(37),
         .short_chance = 0.3,
         .interrupt_chance = 0.1,
         .reorder = true,
         .max_delay_rounds = 3,
         .accept_at_most = 2});
  for (int round = 0; round < 20; ++round) {
    const Bytes fresh = random_bytes(kSize);
    std::copy(fresh.begin(), fresh.end(), model_.begin() + kOffset);
    auto written = write(kOffset, fresh);
    ASSERT_TRUE(written) << written.error().message();
    expect_contents();
  }
}

TEST_F(StripedFaults, ACancelledRequestEndsOnceWithItsBuffer) {
  start({.reorder = true, .max_delay_rounds = 5});
  int cancelled = 0;
  for (int round = 0; round < 6; ++round) {
    std::vector<StripedTicket> tickets;
    for (int i = 0; i < 40; ++i) {  // more parts than kMaxParts
      tickets.push_back(submit(round % 2 == 0 ? Direction::kRead : Direction::kWrite, 0,
                               kFileBytes - random_() % kStripe));
    }
    for (std::size_t i = 0; i < tickets.size(); i += 2) tickets[i].cancel();
    for (std::size_t i = 0; i < tickets.size(); ++i) {
      Completion done = tickets[i].wait();
      EXPECT_TRUE(done.buffer);
      if (done.transferred) continue;
      EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
      EXPECT_EQ(i % 2, 0u) << "nobody cancelled this one";
      ++cancelled;
    }
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_EQ(outstanding_, 0);
  expect_contents();
}

TEST_F(StripedFaults, TheKernelIsAskedToGiveUpWhatHangs) {
  start({});
  for (const Direction direction : {Direction::kRead, Direction::kWrite}) {
    const std::uint64_t before = bad_->faults();
    bad_->plan({.kind = FaultKind::kStall, .nth = 2, .forever = true});
    StripedTicket ticket = submit(direction, 0, kFileBytes);
    while (bad_->faults() < before + 3) std::this_thread::sleep_for(1ms);
    EXPECT_FALSE(ticket.done());
    ticket.cancel();
    Completion done = ticket.wait();
    EXPECT_TRUE(done.buffer);
    ASSERT_FALSE(done.transferred);
    EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
    EXPECT_EQ(done.transferred.error().wanted, kFileBytes);
    EXPECT_LT(done.transferred.error().got, kFileBytes);
    bad_->clear();
  }
  EXPECT_EQ(outstanding_, 0);
  expect_contents();
}

TEST_F(StripedFaults, ARequestWithACallbackIsCancelledByItsTicket) {
  start({});
  const std::uint64_t before = bad_->faults();
  bad_->plan({.kind = FaultKind::kStall, .forever = true});
  std::promise<Completion> ended;
  StripedTicket ticket =
      file_->start(Direction::kWrite, {.size_bytes = kFileBytes}, counted(kFileBytes),
                   [&ended](Completion completion) { ended.set_value(std::move(completion)); });
  while (bad_->faults() == before) std::this_thread::sleep_for(1ms);
  ticket.cancel();
  {
    const Completion done = ended.get_future().get();
    EXPECT_TRUE(done.buffer);
    ASSERT_FALSE(done.transferred);
    EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
  }
  ticket.cancel();  // too late, and no harm
  ticket = StripedTicket();
  bad_->clear();
  EXPECT_EQ(outstanding_, 0);
}

TEST_F(StripedFaults, ADeadlineEndsTheRequestAndNotTheUseOfItsMemory) {
  start({});
  bad_->plan({.kind = FaultKind::kStall, .forever = true});
  int hung = 0;
  for (int round = 0; round < 5; ++round) {
    const std::uint64_t before = bad_->faults();
    StripedTicket ticket = file_->read({.offset = kStripe,
                                        .size_bytes = kStripe,
                                        .deadline = std::chrono::steady_clock::now() + 60ms},
                                       counted(kStripe));
    const Completion done = ticket.wait();
    ASSERT_FALSE(done.transferred);
    EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
    EXPECT_THAT(done.transferred.error().path, EndsWith("d1/data"));
    // On a machine this busy that nothing had begun by then, the Buffer comes back at once.
    const bool began = bad_->faults() > before;
    EXPECT_EQ(static_cast<bool>(done.buffer), !began);
    hung += began;
  }
  EXPECT_GT(hung, 0);
  // It is given back when the kernel has let go.
  for (int i = 0; i < 5000 && outstanding_ > 0; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(outstanding_, 0);
}

// All parts are taken by a drive that hangs, and more wait for one: an urgent request gets the
// next.
TEST_F(StripedFaults, AnUrgentRequestGoesFirst) {
  start({});
  bad_->plan({.kind = FaultKind::kStall, .forever = true});
  std::vector<StripedTicket> stuck;
  constexpr std::size_t kPartsOfBad = kFileBytes / kStripe / 2;
  for (std::size_t i = 0; i * kPartsOfBad < StripedFile::kMaxParts + 200; ++i) {
    stuck.push_back(submit(Direction::kRead, 0, kFileBytes));
  }
  const auto hanging = [&] { return good_->operations(); };
  for (std::uint64_t seen = 0; seen != hanging();) {  // until the good drive has nothing to do
    seen = hanging();
    std::this_thread::sleep_for(50ms);
  }
  StripedTicket urgent =
      file_->read({.offset = 2 * kStripe, .size_bytes = kStripe, .priority = Priority::kUrgent},
                  counted(kStripe));
  stuck.front().cancel();
  const Completion done = urgent.wait_until(std::chrono::steady_clock::now() + 20s);
  ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  EXPECT_EQ(std::memcmp(done.buffer.data(), &model_[2 * kStripe], kStripe), 0);
  EXPECT_FALSE(stuck.back().done());
  stuck.clear();
  file_.reset();
  engine_.reset();
  second_engine_.reset();
}

TEST_F(StripedFaults, WaitingUntilADeadlineCancels) {
  start({});
  bad_->plan({.kind = FaultKind::kStall, .forever = true});
  const Completion late =
      submit(Direction::kRead, 0, kFileBytes).wait_until(std::chrono::steady_clock::now() + 5ms);
  ASSERT_FALSE(late.transferred);
  EXPECT_EQ(late.transferred.error().kind, ErrorKind::kDeadline);
  for (int i = 0; i < 5000 && outstanding_ > 0; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(outstanding_, 0);
}

TEST_F(StripedFaults, AbandonedRequestsGiveTheirBuffersBack) {
  start({.max_delay_rounds = 5});
  std::atomic<int> callbacks{0};
  for (int round = 0; round < 20; ++round) {
    std::ignore = submit(Direction::kRead, 0, kFileBytes);
    file_->read({.size_bytes = kFileBytes}, counted(kFileBytes), [&](Completion) { ++callbacks; });
    Completion late =
        submit(Direction::kRead, 0, kFileBytes).wait_until(std::chrono::steady_clock::now());
    if (!late.transferred) {
      EXPECT_EQ(late.transferred.error().kind, ErrorKind::kDeadline);
      EXPECT_FALSE(late.buffer);
    }
  }
  // Dropped with requests on their way.
  StripedTicket outlives = submit(Direction::kRead, 0, kFileBytes);
  file_.reset();
  engine_.reset();
  second_engine_.reset();
  EXPECT_EQ(callbacks, 20);
  EXPECT_TRUE(outlives.done());
  EXPECT_TRUE(outlives.wait().buffer);
  EXPECT_EQ(outstanding_, 0);
}

TEST_F(StripedFaults, MemoryThatADeviceKeepsIsNeverGivenBack) {
  start({});
  bad_->plan({.kind = FaultKind::kLoseCompletion, .direction = Direction::kRead, .nth = 2});
  StripedTicket ticket = submit(Direction::kRead, 0, kFileBytes);
  while (bad_->faults() == 0) std::this_thread::sleep_for(1ms);
  file_.reset();
  engine_.reset();
  second_engine_.reset();
  const Completion done = ticket.wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
  EXPECT_FALSE(done.buffer);
  EXPECT_EQ(outstanding_, 1);
}

}  // namespace
}  // namespace spillway::aio
