#include "engine_pass.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace spillway::bench {
namespace {

using pinned_pool::Lease;
using pinned_pool::Pool;

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kHugePageBytes = 2 << 20;

std::uint64_t mark_of(std::uint64_t offset) {
  return (offset / kPageBytes + 1) * 0x9e3779b97f4a7c15;
}

double cpu_seconds_so_far() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

void fill_with_noise(Pool& pool) {
  std::mt19937_64 random(1);
  std::vector<Lease> all;
  while (Lease lease = pool.try_acquire()) {
    for (std::size_t at = 0; at < lease.capacity(); at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(lease.data() + at, &word, sizeof word);
    }
    all.push_back(std::move(lease));
  }
}

void mark(std::byte* data, std::size_t size_bytes, std::uint64_t offset) {
  for (std::size_t at = 0; at < size_bytes; at += kPageBytes) {
    const std::uint64_t word = mark_of(offset + at);
    std::memcpy(data + at, &word, sizeof word);
  }
}

bool marked(const std::byte* data, std::size_t size_bytes, std::uint64_t offset) {
  for (std::size_t at = 0; at < size_bytes; at += kPageBytes) {
    std::uint64_t word = 0;
    std::memcpy(&word, data + at, sizeof word);
    if (word != mark_of(offset + at)) return false;
  }
  return true;
}

// 7 reads in 10 requests, spread evenly.
bool is_read(Mix mix, std::uint64_t request) {
  if (mix != Mix::kReadWrite) return mix == Mix::kRead;
  return (request + 1) * 7 / 10 > request * 7 / 10;
}

}  // namespace

RequestBuffers hot_buffers(const Setting& setting) {
  return {.bytes = setting.block_size_bytes,
          .count = std::size_t{setting.queue_depth} * setting.thread_count};
}

struct EnginePass::Pending {
  aio::Ticket ticket;
  std::uint64_t offset = 0;
  std::size_t size_bytes = 0;
  bool read = false;
};

Result<std::unique_ptr<EnginePass>> EnginePass::create(const aio::File& file,
                                                       std::uint64_t size_bytes,
                                                       const Setting& setting,
                                                       const RequestBuffers& buffers) {
  std::unique_ptr<EnginePass> pass(new EnginePass(file, size_bytes, setting.mix, buffers));
  auto engine = aio::Engine::create({.backend = aio::BackendKind::kIoUring,
                                     .block_size_bytes = setting.block_size_bytes,
                                     .queue_depth = setting.queue_depth,
                                     .thread_count = setting.thread_count});
  if (!engine) return tl::unexpected(engine.error());
  pass->engine_ = std::move(*engine);
  pass->engine_->register_file(file);
  // At least a huge page of them, as fio has. The pool lends the one that came back last, so no
  // more than are in flight are used.
  const std::size_t of_a_huge_page = (kHugePageBytes + buffers.bytes - 1) / buffers.bytes;
  auto pool = Pool::create({.buffer_bytes = buffers.bytes,
                            .buffer_count = std::max(buffers.count, of_a_huge_page),
                            .name = "request"},
                           pass->engine_.get());
  if (!pool) return tl::unexpected(pool.error());
  pass->pool_ = std::move(*pool);
  fill_with_noise(*pass->pool_);
  return pass;
}

Result<void> EnginePass::finish(const Pending& pending, const aio::Completion& completion,
                                Marks marks) const {
  if (!completion.transferred) return tl::unexpected(completion.transferred.error());
  if (marks == Marks::kNone || !pending.read ||
      marked(completion.buffer.data(), pending.size_bytes, pending.offset)) {
    return {};
  }
  return make_error(ErrorKind::kCorrupt, "read", file_.path(),
                    "wrong bytes at " + std::to_string(pending.offset) + " or after");
}

Result<void> EnginePass::move_one_by_one(Mix mix, Marks marks) {
  for (std::uint64_t offset = 0; offset < size_bytes_;) {
    Lease lease = pool_->acquire();
    const std::size_t size = std::min<std::uint64_t>(buffers_.bytes, size_bytes_ - offset);
    const bool read = is_read(mix, offset / buffers_.bytes);
    if (!read && marks == Marks::kWriteAndCheck) mark(lease.data(), size, offset);
    const aio::Engine::Request request{.file = &file_, .offset = offset, .size_bytes = size};
    const aio::Completion completion =
        read ? engine_->read_and_wait(request, std::move(lease).release())
             : engine_->write_and_wait(request, std::move(lease).release());
    const Pending pending{.ticket = {}, .offset = offset, .size_bytes = size, .read = read};
    if (auto finished = finish(pending, completion, marks); !finished) return finished;
    offset += size;
  }
  return {};
}

Result<void> EnginePass::move_all(Mix mix, Marks marks) {
  if (buffers_.count == 1) return move_one_by_one(mix, marks);
  std::deque<Pending> pending;
  Result<void> done;
  const auto finish_oldest = [&] {
    const aio::Completion completion = pending.front().ticket.wait();
    auto finished = finish(pending.front(), completion, marks);
    pending.pop_front();
    if (done) done = finished;
  };
  for (std::uint64_t offset = 0; done && offset < size_bytes_;) {
    if (pending.size() == buffers_.count) {
      finish_oldest();
      continue;
    }
    Lease lease = pool_->acquire();
    const std::size_t size = std::min<std::uint64_t>(buffers_.bytes, size_bytes_ - offset);
    const bool read = is_read(mix, offset / buffers_.bytes);
    if (!read && marks == Marks::kWriteAndCheck) mark(lease.data(), size, offset);
    const aio::Engine::Request request{.file = &file_, .offset = offset, .size_bytes = size};
    pending.push_back({read ? engine_->read(request, std::move(lease).release())
                            : engine_->write(request, std::move(lease).release()),
                       offset, size, read});
    offset += size;
  }
  while (!pending.empty()) finish_oldest();  // after a failure too: the buffers must be home
  return done;
}

Result<Run> EnginePass::run() {
  const std::uint64_t calls_before = engine_->stats().system_calls;
  const double cpu_before = cpu_seconds_so_far();
  const auto start = std::chrono::steady_clock::now();
  auto done = move_all(mix_, Marks::kNone);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (!done) return tl::unexpected(done.error());
  return Run{.seconds = elapsed.count(),
             .cpu_seconds = cpu_seconds_so_far() - cpu_before,
             .bytes = size_bytes_,
             .system_calls = engine_->stats().system_calls - calls_before};
}

Result<void> EnginePass::check() {
  if (auto written = move_all(Mix::kWrite, Marks::kWriteAndCheck); !written) return written;
  return move_all(Mix::kRead, Marks::kWriteAndCheck);
}

}  // namespace spillway::bench
