// A forked child that uses what its parent made gets an error at once, and harms nothing of the
// parent. The children here are real, and each has 10 s.
#include <gtest/gtest.h>
#include <spillway/aio/completion_queue.h>
#include <spillway/aio/engine.h>
#include <spillway/aio/owner_process.h>
#include <spillway/aio/striped_file.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "support/child.h"
#include "support/gated_backend.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr unsigned kLimit_s = 10;
constexpr std::size_t kBytes = 64 << 10;

const char* direction_name(int i) { return i % 2 == 0 ? "read" : "write"; }

// What is wrong with an outcome in a child of `parent`; empty if nothing is.
std::string wrong(const Completion& done, pid_t parent, bool has_buffer, const std::string& what) {
  if (done.transferred) return what + " succeeded";
  if (done.transferred.error().kind != ErrorKind::kInvalid) return what + ": another kind";
  const std::string expected =
      "made in process " + std::to_string(parent) + "; a forked child cannot use it";
  if (done.transferred.error().detail != expected) {
    return what + " says: " + done.transferred.error().message();
  }
  if (static_cast<bool>(done.buffer) != has_buffer) return what + ": the Buffer is not as expected";
  return {};
}

TEST(OwnerProcess, IsHereInTheProcessThatMadeItAndNoOther) {
  const OwnerProcess of_parent;
  EXPECT_TRUE(of_parent.is_here());
  EXPECT_EQ(in_child(
                [&]() -> std::string {
                  if (of_parent.is_here()) return "is here in the child";
                  const OwnerProcess of_child;
                  if (!of_child.is_here()) return "the child's own is not here";
                  const std::string pid = std::to_string(::getpid());
                  if (of_child.error("x").detail.find("process " + pid + ";") == pid.npos) {
                    return "names another process: " + of_child.error("x").detail;
                  }
                  return in_child(
                      [&]() -> std::string {
                        if (of_parent.is_here()) return "the parent's is here in the grandchild";
                        return of_child.is_here() ? "the child's is here in the grandchild" : "";
                      },
                      kLimit_s);
                },
                kLimit_s),
            "");
  EXPECT_TRUE(of_parent.is_here());
}

// The engine's thread holds what it was given until the gate opens.
class ForkedChild : public testing::Test {
 protected:
  ForkedChild() {
    auto engine = Engine::create({.block_size_bytes = kBytes, .queue_depth = 2},
                                 std::make_unique<GatedFactory>(gate_));
    EXPECT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
    auto file = File::create(scratch_ / "data", {.size_bytes = 16 * kBytes});
    EXPECT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
  }
  Engine::Request request() const { return {.file = &*file_, .size_bytes = kBytes}; }

  Scratch scratch_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::unique_ptr<Engine> engine_;
  std::optional<File> file_;
  const pid_t parent_ = ::getpid();
};

TEST_F(ForkedChild, RequestsFailAtOnceWithTheirBuffer) {
  const auto body = [&]() -> std::string {
    for (int i = 0; i < 4; ++i) {
      Buffer buffer = Buffer::allocate(kBytes);
      Ticket ticket = i % 2 == 0 ? engine_->read(request(), std::move(buffer))
                                 : engine_->write(request(), std::move(buffer));
      if (!ticket.done()) return "a request is not done";
      ticket.cancel();
      ticket.expedite();
      const Completion done =
          i < 2 ? ticket.wait() : ticket.wait_until(steady_clock::now() + std::chrono::hours(1));
      if (auto problem = wrong(done, parent_, true, direction_name(i)); !problem.empty()) {
        return problem;
      }
      if (done.transferred.error().operation != direction_name(i)) return "another operation";
    }
    std::string problem;
    int called = 0;
    const auto callback = [&](Completion done) {
      ++called;
      if (problem.empty()) problem = wrong(done, parent_, true, "a callback");
    };
    engine_->read(request(), Buffer::allocate(kBytes), callback);
    engine_->write(request(), Buffer::allocate(kBytes), callback);
    std::ignore = engine_->start(Direction::kRead, request(), Buffer::allocate(kBytes), callback);
    Engine::Submission batch[2];
    for (Engine::Submission& given : batch) {
      given.request = request();
      given.buffer = Buffer::allocate(kBytes);
      given.callback = callback;
    }
    engine_->submit(batch);
    if (called != 5) return std::to_string(called) + " callbacks of 5";
    if (!problem.empty()) return problem;
    return wrong(engine_->read_and_wait(request(), Buffer::allocate(kBytes)), parent_, true,
                 "read_and_wait");
  };
  EXPECT_EQ(in_child(body, kLimit_s), "");
  EXPECT_EQ(gate_->count(), 0u) << "the parent's engine got a request";
}

TEST_F(ForkedChild, TicketsOfTheParentEndWithoutTheirBufferAndGoOnInTheParent) {
  std::vector<Ticket> tickets;
  for (int i = 0; i < 4; ++i) {
    tickets.push_back(engine_->read(request(), Buffer::allocate(kBytes)));
  }
  const auto body = [&]() -> std::string {
    for (Ticket& ticket : tickets) {
      if (!ticket.done() || !ticket.wait_for(0s)) return "a ticket would be waited for";
      ticket.cancel();
      ticket.expedite();
    }
    std::string problem = wrong(tickets[0].wait(), parent_, false, "wait");
    if (!problem.empty()) return problem;
    const auto later = steady_clock::now() + std::chrono::hours(1);
    problem = wrong(tickets[1].wait_until(later), parent_, false, "wait_until");
    tickets.clear();
    return problem;
  };
  EXPECT_EQ(in_child(body, kLimit_s), "");
  EXPECT_FALSE(tickets[0].done());
  gate_->open = 100;
  for (Ticket& ticket : tickets) {
    const Completion done = ticket.wait();
    EXPECT_TRUE(done.transferred) << done.transferred.error().message();
    EXPECT_TRUE(done.buffer);
  }
}

TEST_F(ForkedChild, TheOtherCallsAndTheDestructorReturnAtOnce) {
  const Ticket in_flight = engine_->read(request(), Buffer::allocate(kBytes));
  std::vector<std::byte> memory(kBytes);
  const auto body = [&]() -> std::string {
    const auto registered = engine_->register_memory(memory);
    if (registered) return "memory was registered";
    if (registered.error().detail.find("a forked child") == std::string::npos) {
      return registered.error().message();
    }
    engine_->unregister_memory(memory);
    engine_->register_file(*file_);
    engine_->unregister_file(*file_);
    std::ignore = engine_->stats();
    std::ignore = engine_->latency(Direction::kRead);
    engine_.reset();
    return {};
  };
  EXPECT_EQ(in_child(body, kLimit_s), "");
  EXPECT_TRUE(engine_->register_memory(memory));
  engine_->unregister_memory(memory);
}

TEST_F(ForkedChild, NothingArrivesInACompletionQueue) {
  auto made = CompletionQueue::create(4);
  ASSERT_TRUE(made) << made.error().message();
  std::unique_ptr<CompletionQueue> queue = std::move(*made);
  engine_->read(request(), Buffer::allocate(kBytes), queue->callback(1));
  const auto body = [&]() -> std::string {
    engine_->read(request(), Buffer::allocate(kBytes), queue->callback(2));
    if (queue->try_take() || queue->wait()) return "something arrived";
    if (queue->expected() != 0) return "something is expected";
    if (queue->fd()) return "it has a descriptor";
    queue.reset();
    return {};
  };
  EXPECT_EQ(in_child(body, kLimit_s), "");
  gate_->open = 100;
  const auto entry = queue->wait();
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->tag, 1u);
  EXPECT_TRUE(entry->completion.transferred);
}

// Over the real backends, with threads that are inside of the engine's locks at any moment.
class ForkedChildOf : public testing::TestWithParam<BackendKind> {
 protected:
  void SetUp() override {
    auto engine =
        Engine::create({.backend = GetParam(), .block_size_bytes = 4096, .thread_count = 2});
    if (!engine) GTEST_SKIP() << engine.error().message();
    engine_ = std::move(*engine);
    for (const char* name : {"a", "b"}) {
      std::filesystem::create_directory(scratch_ / name);
      location_.directories.push_back(scratch_ / name);
    }
    location_.name = "striped";
    auto striped = StripedFile::create(
        {engine_.get()}, location_, {.size_bytes = kBytes, .stripe_bytes = 4096, .speeds = {1, 1}});
    ASSERT_TRUE(striped) << striped.error().message();
    striped_.emplace(std::move(*striped));
    auto file = File::create(scratch_ / "data", {.size_bytes = kBytes});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
  }
  std::string use_all() {
    std::string problem =
        wrong(engine_->read({.file = &*file_, .size_bytes = 4096}, Buffer::allocate(4096)).wait(),
              parent_, true, "read");
    if (!problem.empty()) return problem;
    StripedTicket ticket = striped_->write({.size_bytes = 8192}, Buffer::allocate(8192));
    if (!ticket.done() || !ticket.wait_for(0s)) return "a striped write is not done";
    ticket.cancel();
    problem = wrong(ticket.wait(), parent_, true, "a striped write");
    if (problem.empty()) {
      problem = wrong(
          engine_->write_and_wait({.file = &*file_, .size_bytes = 4096}, Buffer::allocate(4096)),
          parent_, true, "write_and_wait");
    }
    if (!problem.empty()) return problem;
    int called = 0;
    striped_->read({.size_bytes = 8192}, Buffer::allocate(8192), [&](Completion done) {
      ++called;
      problem = wrong(done, parent_, true, "a striped read");
    });
    if (called != 1) return "no callback";
    if (striped_->sync() || striped_->remove()) return "the striped file was synced or removed";
    striped_.reset();
    engine_.reset();
    return problem;
  }

  Scratch scratch_;
  std::unique_ptr<Engine> engine_;  // before the files on it
  StripedLocation location_;
  std::optional<StripedFile> striped_;
  std::optional<File> file_;
  const pid_t parent_ = ::getpid();
};

TEST_P(ForkedChildOf, NeitherHangsNorStopsThreadsThatWereInsideOfAnyLock) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer's allocator may hang in a child of a process with threads";
#endif
  std::atomic<bool> over{false};
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      while (!over) {
        Completion done =
            t == 0 ? engine_->write({.file = &*file_, .size_bytes = 4096}, Buffer::allocate(4096))
                         .wait()
                   : striped_->read({.size_bytes = 8192}, Buffer::allocate(8192)).wait();
        failures += done.transferred ? 0 : 1;
        StripedTicket dropped = striped_->read({.size_bytes = 8192}, Buffer::allocate(8192));
      }
    });
  }
  for (int i = 0; i < 60; ++i) {
    const std::string problem = in_child([&] { return use_all(); }, kLimit_s);
    EXPECT_EQ(problem, "");
    if (!problem.empty()) break;
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

TEST_P(ForkedChildOf, EndsStripedTicketsOfTheParentWithoutTheirBuffer) {
  StripedTicket first = striped_->read({.size_bytes = kBytes}, Buffer::allocate(kBytes));
  StripedTicket second = striped_->read({.size_bytes = kBytes}, Buffer::allocate(kBytes));
  const auto body = [&]() -> std::string {
    if (!first.done() || !second.done()) return "a ticket would be waited for";
    first.cancel();
    std::string problem = wrong(first.wait(), parent_, false, "wait");
    if (!problem.empty()) return problem;
    const auto later = steady_clock::now() + std::chrono::hours(1);
    return wrong(second.wait_until(later), parent_, false, "wait_until");
  };
  EXPECT_EQ(in_child(body, kLimit_s), "");
  EXPECT_TRUE(first.wait().transferred);
  EXPECT_TRUE(second.wait().transferred);
}

TEST_P(ForkedChildOf, MayMakeAnEngineOfItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer knows no threads of a forked child";
#endif
  Buffer bytes = Buffer::allocate(kBytes);
  std::memset(bytes.data(), 0x5a, kBytes);
  ASSERT_TRUE(striped_->write({.size_bytes = kBytes}, std::move(bytes)).wait().transferred);
  const auto body = [&]() -> std::string {
    auto own = Engine::create({.backend = GetParam(), .block_size_bytes = 4096});
    if (!own) return own.error().message();
    auto opened = StripedFile::open({own->get()}, location_);
    if (!opened) return opened.error().message();
    const Completion done = opened->read({.size_bytes = kBytes}, Buffer::allocate(kBytes)).wait();
    if (!done.transferred) return done.transferred.error().message();
    const std::vector<std::byte> expected(kBytes, std::byte{0x5a});
    return std::memcmp(done.buffer.data(), expected.data(), kBytes) == 0 ? "" : "other bytes";
  };
  EXPECT_EQ(in_child(body, kLimit_s), "");
}

INSTANTIATE_TEST_SUITE_P(Backends, ForkedChildOf,
                         testing::Values(BackendKind::kIoUring, BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == BackendKind::kIoUring ? "io_uring" : "threads";
                         });

}  // namespace
}  // namespace spillway::aio
