#include "engine_pass.h"

#include <sys/resource.h>

#include <spillway/pinned_pool/pool.h>
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
constexpr std::size_t kRequestBytes = std::size_t{4} << 20;  // the engine cuts it into blocks

std::uint64_t stamp_of(std::uint64_t offset) {
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

void stamp(std::byte* data, std::size_t size_bytes, std::uint64_t offset) {
  for (std::size_t at = 0; at < size_bytes; at += kPageBytes) {
    const std::uint64_t word = stamp_of(offset + at);
    std::memcpy(data + at, &word, sizeof word);
  }
}

bool stamped(const std::byte* data, std::size_t size_bytes, std::uint64_t offset) {
  for (std::size_t at = 0; at < size_bytes; at += kPageBytes) {
    std::uint64_t word = 0;
    std::memcpy(&word, data + at, sizeof word);
    if (word != stamp_of(offset + at)) return false;
  }
  return true;
}

struct Pending {
  aio::Ticket ticket;
  std::uint64_t offset = 0;
  std::size_t size_bytes = 0;
};

Result<void> finish(Pending pending, const aio::File& file, aio::Direction direction) {
  const aio::Completion completion = pending.ticket.wait();
  if (!completion.transferred) return tl::unexpected(completion.transferred.error());
  if (direction == aio::Direction::kWrite ||
      stamped(completion.buffer.data(), pending.size_bytes, pending.offset)) {
    return {};
  }
  return make_error(ErrorKind::kCorrupt, "read", file.path(),
                    "wrong bytes at " + std::to_string(pending.offset) + " or after");
}

Result<void> move_all(aio::Engine& engine, Pool& pool, const aio::File& file,
                      std::uint64_t size_bytes, aio::Direction direction) {
  std::deque<Pending> pending;
  Result<void> done;
  const auto finish_oldest = [&] {
    auto finished = finish(std::move(pending.front()), file, direction);
    pending.pop_front();
    if (done) done = finished;
  };
  for (std::uint64_t offset = 0; done && offset < size_bytes;) {
    Lease lease = pool.try_acquire();
    if (!lease) {
      finish_oldest();
      continue;
    }
    const std::size_t size = std::min<std::uint64_t>(kRequestBytes, size_bytes - offset);
    const aio::Engine::Request request{
        .file = &file, .offset = offset, .size_bytes = size, .buffer_offset = 0};
    if (direction == aio::Direction::kWrite) {
      stamp(lease.data(), size, offset);
      pending.push_back({engine.write(request, std::move(lease).release()), offset, size});
    } else {
      pending.push_back({engine.read(request, std::move(lease).release()), offset, size});
    }
    offset += size;
  }
  while (!pending.empty()) finish_oldest();  // after a failure too: the buffers must be home
  return done;
}

}  // namespace

Result<Run> run_engine(const aio::File& file, std::uint64_t size_bytes, const Setting& setting) {
  auto engine = aio::Engine::create({.backend = aio::BackendKind::kIoUring,
                                     .block_size_bytes = setting.block_size_bytes,
                                     .queue_depth = setting.queue_depth});
  if (!engine) return tl::unexpected(engine.error());
  (*engine)->register_file(file);
  const std::size_t in_flight = std::size_t{setting.block_size_bytes} * setting.queue_depth;
  auto pool = Pool::create({.buffer_bytes = kRequestBytes,
                            .buffer_count = (in_flight + kRequestBytes - 1) / kRequestBytes + 2,
                            .name = "request"},
                           engine->get());
  if (!pool) return tl::unexpected(pool.error());
  fill_with_noise(**pool);
  const std::uint64_t calls_before = (*engine)->stats().system_calls;
  const double cpu_before = cpu_seconds_so_far();
  const auto start = std::chrono::steady_clock::now();
  auto done = move_all(**engine, **pool, file, size_bytes, setting.direction);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (!done) return tl::unexpected(done.error());
  return Run{.seconds = elapsed.count(),
             .cpu_seconds = cpu_seconds_so_far() - cpu_before,
             .bytes = size_bytes,
             .system_calls = (*engine)->stats().system_calls - calls_before};
}

}  // namespace spillway::bench
