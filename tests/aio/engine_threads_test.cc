// The threads of engines: they never wait for each other, never miss a wake, and end with all that
// they were asked for told.
#include <gtest/gtest.h>
#include <signal.h>
#include <spillway/aio/engine.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/child.h"
#include "support/gated_backend.h"
#include "support/scratch.h"
#include "support/simulator.h"
#include "work_queue.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::uint32_t kBlock = 4096;

class EngineThreadsTest : public ::testing::Test {
 protected:
  EngineThreadsTest() {
    auto file = File::create(scratch_ / "data", {.size_bytes = 1 << 20});
    file_.emplace(std::move(*file));
  }
  Engine::Request block(std::uint64_t number = 0) const {
    return {.file = &*file_, .offset = number * kBlock, .size_bytes = kBlock};
  }
  static std::unique_ptr<Engine> make(EngineOptions options, std::unique_ptr<BackendFactory> by) {
    options.block_size_bytes = kBlock;
    auto engine = Engine::create(options, std::move(by));
    EXPECT_TRUE(engine);
    return std::move(*engine);
  }

  Scratch scratch_;
  std::optional<File> file_;
};

// Each thread's callbacks submit to the other engine, whose queue is full.
TEST_F(EngineThreadsTest, CallbacksOfTwoEnginesFillEachOthersQueues) {
  constexpr int kEach = 1024;  // as many as may be pending
  EXPECT_EQ(in_child([&]() -> std::string {
              ::alarm(60);  // a deadlock is an end
              std::atomic<int> left{2 * kEach * 3};
              std::promise<void> all;
              const auto one_less = [&](Completion) {
                if (--left == 0) all.set_value();
              };
              std::shared_ptr<Gate> gates[2] = {std::make_shared<Gate>(), std::make_shared<Gate>()};
              std::unique_ptr<Engine> engines[2];
              for (int i : {0, 1}) {
                engines[i] = make({.queue_depth = 8}, std::make_unique<GatedFactory>(gates[i]));
              }
              for (int n = 0; n < kEach; ++n) {
                for (int i : {0, 1}) {
                  Engine& other = *engines[1 - i];
                  engines[i]->read(block(), Buffer::allocate(kBlock), [&](Completion done) {
                    other.read(block(), Buffer::allocate(kBlock), one_less);
                    other.read(block(), Buffer::allocate(kBlock), one_less);
                    one_less(std::move(done));
                  });
                }
              }
              for (auto& gate : gates) gate->open = 1'000'000;
              all.get_future().wait();
              return "";
            }),
            "");
}

// Calls `during` in the nth submit, on the engine's thread.
class HookedBackend : public Backend {
 public:
  HookedBackend(std::unique_ptr<Backend> backend, int nth, std::function<void()> during)
      : backend_(std::move(backend)), left_(nth), during_(std::move(during)) {}
  const char* name() const noexcept override { return backend_->name(); }
  std::size_t submit(std::span<const Operation> operations) override {
    if (!operations.empty() && --left_ == 0) during_();
    return backend_->submit(operations);
  }
  std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) override {
    return backend_->reap(events, timeout);
  }
  void cancel_all() override { backend_->cancel_all(); }
  void cancel(std::uint64_t user_data) override { backend_->cancel(user_data); }
  void wake() noexcept override { backend_->wake(); }
  Result<void> register_memory(std::span<std::byte> memory) override {
    return backend_->register_memory(memory);
  }
  void unregister_memory(std::span<std::byte> memory) override {
    backend_->unregister_memory(memory);
  }
  void register_file(int fd) override { backend_->register_file(fd); }
  void unregister_file(int fd) override { backend_->unregister_file(fd); }
  std::uint64_t system_calls() const noexcept override { return backend_->system_calls(); }

 private:
  std::unique_ptr<Backend> backend_;
  int left_;
  std::function<void()> during_;
};

// The kernel lets go of what is cancelled five looks later.
class LateBackend final : public HookedBackend {
 public:
  using HookedBackend::HookedBackend;
  void cancel_all() override { looks_left_ = 5; }
  std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) override {
    if (looks_left_ > 0 && --looks_left_ == 0) HookedBackend::cancel_all();
    return HookedBackend::reap(events, timeout);
  }

 private:
  int looks_left_ = 0;
};

template <typename Kind>
class HookedFactory final : public BackendFactory {
 public:
  explicit HookedFactory(std::unique_ptr<BackendFactory> factory, int nth = 0,
                         std::function<void()> during = {})
      : factory_(std::move(factory)), nth_(nth), during_(std::move(during)) {}
  Result<std::unique_ptr<Backend>> make(std::uint32_t depth) override {
    auto backend = factory_->make(depth);
    if (!backend) return backend;
    return std::make_unique<Kind>(std::move(*backend), nth_, during_);
  }

 private:
  std::unique_ptr<BackendFactory> factory_;
  int nth_;
  std::function<void()> during_;
};

// With one system call an operation, completions are looked for in between: what wakes the thread
// just then must not be forgotten. Two operations never end, so nothing else wakes it.
TEST_F(EngineThreadsTest, ARequestThatComesWhileAnotherIsSubmittedIsNotForgotten) {
  auto control = std::make_shared<SimulatorControl>();
  control->plan({.kind = FaultKind::kStall, .nth = 1});
  control->plan({.kind = FaultKind::kStall, .nth = 2});
  std::unique_ptr<Engine> engine;
  Ticket third;
  const auto push_one_more = [&] {
    std::thread([&] { third = engine->read(block(2), Buffer::allocate(kBlock)); }).join();
  };
  engine = make({.single_submit = true}, std::make_unique<HookedFactory<HookedBackend>>(
                                             simulator_backend(control), 2, push_one_more));
  Ticket first = engine->read(block(0), Buffer::allocate(kBlock));
  while (control->operations() < 1) std::this_thread::yield();
  Ticket second = engine->read(block(1), Buffer::allocate(kBlock));
  while (control->operations() < 2) std::this_thread::yield();
  EXPECT_TRUE(third.wait_until(steady_clock::now() + 30s).transferred);
}

// The deadlines are two seconds away, and it is stopped for three.
TEST_F(EngineThreadsTest, TimeInWhichTheProcessIsStoppedIsNoDelay) {
  int channel[2];
  ASSERT_EQ(::pipe(channel), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    auto gate = std::make_shared<Gate>();
    auto engine = make({}, std::make_unique<GatedFactory>(gate));
    const auto deadline = steady_clock::now() + 2s;
    Engine::Request request = block();
    request.deadline = deadline;
    Ticket late = engine->read(request, Buffer::allocate(kBlock));
    Ticket waited_for = engine->read(block(1), Buffer::allocate(kBlock));
    auto waiting = std::async(std::launch::async, [&] {
      return waited_for.wait_until(deadline).transferred.has_value();
    });
    std::this_thread::sleep_for(500ms);  // both wait by now
    ::raise(SIGSTOP);
    // Runs again: what was in flight ends soon, not at once.
    if (!gate->settled()) ::_exit(2);
    gate->open = 2;
    const bool ended = late.wait().transferred.has_value();
    const bool was_waited_for = waiting.get();
    ::_exit(!ended ? 3 : was_waited_for ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  std::this_thread::sleep_for(3s);  // past the deadlines
  ::kill(child, SIGCONT);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "something was called late";
}

TEST_F(EngineThreadsTest, ACallbackOnTheThreadThatCancelledEndsBeforeTheEngine) {
  auto gate = std::make_shared<Gate>();
  auto engine = make({.queue_depth = 1}, std::make_unique<GatedFactory>(gate));
  Ticket ahead =
      engine->read({.file = &*file_, .size_bytes = 100 * kBlock}, Buffer::allocate(100 * kBlock));
  std::promise<void> entered, destroying;
  std::atomic<bool> ended{false};
  Ticket behind =
      engine->start(Direction::kRead, block(), Buffer::allocate(kBlock), [&](Completion) {
        entered.set_value();
        destroying.get_future().wait();
        std::this_thread::sleep_for(20ms);
        ended = true;
      });
  std::thread canceller([&] { behind.cancel(); });
  entered.get_future().wait();
  destroying.set_value();
  engine.reset();
  EXPECT_TRUE(ended);
  canceller.join();
}

// When the engine ends, what a callback submits ends at once, and its callback submits the next.
TEST_F(EngineThreadsTest, CallbacksThatSubmitTheNextItemDoNotPileUp) {
  auto control = std::make_shared<SimulatorControl>();
  control->plan({.kind = FaultKind::kStall});
  auto engine = make({}, simulator_backend(control));
  Engine* const the_engine = engine.get();
  int left = 1'000'000;
  std::function<void(Completion)> next = [&](Completion done) {
    if (--left > 0) the_engine->read(block(), std::move(done.buffer), std::ref(next));
  };
  engine->read(block(), Buffer::allocate(kBlock), std::ref(next));
  while (control->operations() < 1) std::this_thread::yield();
  engine.reset();
  EXPECT_EQ(left, 0);
}

TEST_F(EngineThreadsTest, ADrainTimeoutWithoutEndWaitsForWhatIsInFlight) {
  constexpr int kReads = 8;
  auto gate = std::make_shared<Gate>();
  std::atomic<int> released{0};
  const Buffer memory = Buffer::allocate(kReads * kBlock);
  auto release = [](void* count, std::byte*, std::size_t) noexcept {
    ++*static_cast<std::atomic<int>*>(count);
  };
  auto engine =
      make({.queue_depth = kReads, .drain_timeout = std::chrono::milliseconds::max()},
           std::make_unique<HookedFactory<LateBackend>>(std::make_unique<GatedFactory>(gate)));
  for (int i = 0; i < kReads; ++i) {
    engine->read(block(), Buffer(memory.data() + i * kBlock, kBlock, release, &released),
                 [](Completion) {});
  }
  while (gate->count() < kReads) std::this_thread::yield();
  engine.reset();
  EXPECT_EQ(released, kReads);
}

using EngineThreadsDeathTest = EngineThreadsTest;
TEST_F(EngineThreadsDeathTest, AnEngineDestroyedInItsCallbackIsNamed) {
  EXPECT_DEATH(
      {
        auto gate = std::make_shared<Gate>();
        gate->open = 1;
        auto engine = make({}, std::make_unique<GatedFactory>(gate));
        std::promise<void> made;
        engine->read(block(), Buffer::allocate(kBlock), [&](Completion) { engine.reset(); });
        made.get_future().wait_for(30s);
      },
      "destroyed in a callback");
}

// No signal handler of the program runs on a thread of an engine.
TEST_F(EngineThreadsTest, SignalsGoToTheProgramsThreads) {
  static std::atomic<pid_t> handled_on;
  auto engine = make({.thread_count = 3}, thread_pool_backend());
  EXPECT_TRUE(engine->read(block(), Buffer::allocate(kBlock)).wait().transferred);
  struct sigaction before {};
  struct sigaction mine {};
  mine.sa_handler = [](int) { handled_on = ::gettid(); };
  ::sigaction(SIGUSR1, &mine, &before);
  sigset_t usr1, old;
  ::sigemptyset(&usr1);
  ::sigaddset(&usr1, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &usr1, &old);
  ::kill(::getpid(), SIGUSR1);  // to any thread that takes it: this one does not yet
  EXPECT_TRUE(engine->read(block(), Buffer::allocate(kBlock)).wait().transferred);
  EXPECT_EQ(handled_on, 0);
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  EXPECT_EQ(handled_on, ::gettid());
  ::sigaction(SIGUSR1, &before, nullptr);
}

class IdleWorker final : public Worker {
 public:
  void wake() noexcept override {}
};

// The queue by itself, with two threads that take in turn.
class SharingTest : public EngineThreadsTest {
 protected:
  SharingTest() : queue_({.block_size_bytes = 1 << 20, .thread_count = 2}) {
    for (IdleWorker& worker : workers_) queue_.add(worker);
  }
  void push(std::uint64_t offset, std::size_t size_bytes) {
    auto request = std::make_unique<PendingRequest>();
    request->begin(Direction::kRead, {.file = &*file_, .offset = offset, .size_bytes = size_bytes},
                   Buffer::allocate(size_bytes, kBlock), nullptr);
    PendingRequest* const only = request.get();
    ASSERT_EQ(queue_.push({&only, 1}, /*may_block=*/false), 1u);
    requests_.push_back(std::move(request));
  }
  std::vector<Work> take(std::size_t room, std::size_t bounce_room) {
    std::vector<Work> work;
    std::vector<PendingRequest*> completed, expired, drained;
    std::vector<Command*> commands;
    WorkQueue::Round round{.ended = {},
                           .room = room + Engine::kUrgentDepth,
                           .bounce_room = bounce_room,
                           .work = &work,
                           .completed = &completed,
                           .expired = &expired,
                           .drained = &drained,
                           .commands = &commands};
    queue_.exchange(workers_[0], round);
    return work;
  }

  WorkQueue queue_;
  IdleWorker workers_[2];
  std::vector<std::unique_ptr<PendingRequest>> requests_;
};

// Else each would cost a system call of its own.
TEST_F(SharingTest, AThreadTakesItsShareOfSmallRequestsAtOnce) {
  for (std::uint64_t i = 0; i < 64; ++i) push(i * kBlock, kBlock);
  EXPECT_EQ(take(64, 16).size(), 32u);
}

TEST_F(SharingTest, ALargeRequestIsSpreadOverTheThreads) {
  file_.reset();
  auto large = File::create(scratch_ / "large", {.size_bytes = 16 << 20});
  ASSERT_TRUE(large);
  file_.emplace(std::move(*large));
  push(0, 16 << 20);
  EXPECT_EQ(take(64, 16).size(), 9u) << "of 16 pieces, and what may be one more";
}

TEST_F(SharingTest, OneThatWaitsForABounceBufferHoldsUpNoOther) {
  if (!file_->direct()) GTEST_SKIP() << "no direct I/O here: " << file_->why_not_direct();
  push(1, 100);  // an edge, read through a bounce buffer
  push(kBlock, kBlock);
  push(2 * kBlock, kBlock);
  const std::vector<Work> work = take(64, 0);
  ASSERT_EQ(work.size(), 2u);
  EXPECT_EQ(work[0].request, requests_[1].get());
  const std::vector<Work> later = take(64, 1);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].request, requests_[0].get());
}

}  // namespace
}  // namespace spillway::aio
