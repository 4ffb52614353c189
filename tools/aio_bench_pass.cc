#include "aio_bench_pass.h"

#include <sys/resource.h>

#include <spillway/pinned_pool/pool.h>
#include <algorithm>
#include <chrono>
#include <deque>
#include <utility>

namespace spillway::aio_bench {
namespace {

using pinned_pool::Lease;
using pinned_pool::Pool;
using pinned_pool::Wish;

double cpu_seconds_so_far() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Result<std::unique_ptr<Pool>> make_pool(std::size_t request_bytes, std::size_t count,
                                        aio::Engine& engine) {
  return Pool::create(
      {.buffer_bytes = request_bytes, .buffer_count = count, .name = "request", .cuda = Wish::kOff},
      &engine);
}

// Keeps requests pending over the file from front to back, the oldest waited for first.
class Pass {
 public:
  Pass(TestFile& test, const Cell& cell, Check check, aio::Engine& engine, Pool& pool)
      : test_(test), cell_(cell), check_(check), engine_(engine), pool_(pool) {}

  // Returns when nothing is pending any more: the buffers are home, after a failure too.
  Result<void> run() {
    auto done = move_all();
    for (Pending& pending : pending_) pending.ticket.wait();
    pending_.clear();
    return done;
  }

 private:
  struct Pending {
    aio::Ticket ticket;
    std::uint64_t offset = 0;
    std::size_t size_bytes = 0;
  };

  Result<void> move_all() {
    for (std::uint64_t offset = 0; offset < test_.size_bytes;) {
      Lease lease = pool_.try_acquire();
      if (!lease) {
        if (auto finished = finish_oldest(); !finished) return finished;
        continue;
      }
      const std::size_t size = std::min<std::uint64_t>(lease.capacity(), test_.size_bytes - offset);
      submit(std::move(lease), offset, size);
      offset += size;
    }
    while (!pending_.empty()) {
      if (auto finished = finish_oldest(); !finished) return finished;
    }
    return {};
  }

  void submit(Lease lease, std::uint64_t offset, std::size_t size) {
    const aio::Engine::Request request{
        .file = &test_.file, .offset = offset, .size_bytes = size, .buffer_offset = 0};
    if (cell_.direction == aio::Direction::kWrite) {
      Pattern::stamp({lease.data(), size}, offset, test_.pass);
      pending_.push_back({engine_.write(request, std::move(lease).release()), offset, size});
    } else {
      pending_.push_back({engine_.read(request, std::move(lease).release()), offset, size});
    }
  }

  Result<void> finish_oldest() {
    Pending oldest = std::move(pending_.front());
    pending_.pop_front();
    const aio::Completion completion = oldest.ticket.wait();
    if (!completion.transferred) return tl::unexpected(completion.transferred.error());
    if (cell_.direction == aio::Direction::kWrite) return {};
    const auto data = completion.buffer.first(oldest.size_bytes);
    const auto wrong = check_ == Check::kAll
                           ? test_.pattern.wrong_page(data, oldest.offset, test_.pass)
                           : Pattern::wrong_stamp(data, oldest.offset, test_.pass);
    if (!wrong) return {};
    return make_error(
        ErrorKind::kCorrupt, "read", test_.file.path(),
        "the page at byte " + std::to_string(*wrong) + " does not hold what was written there");
  }

  TestFile& test_;
  const Cell& cell_;
  const Check check_;
  aio::Engine& engine_;
  Pool& pool_;
  std::deque<Pending> pending_;
};

}  // namespace

Result<Measurement> run_pass(TestFile& test, const Cell& cell, aio::BackendKind backend,
                             Check check) {
  auto engine = aio::Engine::create({.backend = backend,
                                     .block_size_bytes = cell.block_size_bytes,
                                     .queue_depth = cell.queue_depth,
                                     .thread_count = cell.thread_count});
  if (!engine) return tl::unexpected(engine.error());
  (*engine)->register_file(test.file);
  const std::size_t request_bytes =
      std::max<std::size_t>(Pattern::kPeriodBytes, cell.block_size_bytes);
  // Two more than the queues hold, so that they stay full while one is checked and one is made.
  const std::size_t count = (cell.in_flight_bytes() + request_bytes - 1) / request_bytes + 2;
  auto pool = make_pool(request_bytes, count, **engine);
  if (!pool) return tl::unexpected(pool.error());
  {
    std::vector<Lease> all;
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back((*pool)->acquire());
      test.pattern.fill({all.back().data(), all.back().capacity()});
    }
  }
  if (cell.direction == aio::Direction::kWrite) ++test.pass;
  Pass pass(test, cell, check, **engine, **pool);
  const std::uint64_t calls_before = (*engine)->stats().system_calls;
  const double cpu_before = cpu_seconds_so_far();
  const auto start = std::chrono::steady_clock::now();
  auto done = pass.run();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double cpu_seconds = cpu_seconds_so_far() - cpu_before;
  const std::uint64_t calls = (*engine)->stats().system_calls - calls_before;
  if (!done) return tl::unexpected(done.error());
  return Measurement{.seconds = elapsed.count(),
                     .cpu_seconds = cpu_seconds,
                     .bytes = test.size_bytes,
                     .system_calls = calls};
}

Result<EngineTrial> try_engine(aio::BackendKind backend) {
  auto engine = aio::Engine::create({.backend = backend});
  if (!engine) return tl::unexpected(engine.error());
  auto pool = make_pool(Pattern::kPeriodBytes, 4, **engine);
  if (!pool) return tl::unexpected(pool.error());
  return EngineTrial{(*engine)->choice(), (*pool)->slab().report()};
}

}  // namespace spillway::aio_bench
