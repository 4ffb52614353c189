#include <spillway/aio/path_speed.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <system_error>
#include <utility>

namespace spillway::aio {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kRequestBytes = std::size_t{4} << 20;
constexpr std::size_t kInFlight = 4;

Buffer noise() {
  Buffer buffer = Buffer::allocate(kRequestBytes);
  std::mt19937_64 random(1);
  for (std::size_t at = 0; at < kRequestBytes; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(buffer.data() + at, &word, sizeof word);
  }
  return buffer;
}

struct Pass {
  std::uint64_t bytes = 0;
  double seconds = 0;
};

// Front to back until `end` or until the time is over; what has begun is finished and counted.
Result<Pass> run_pass(Engine& engine, const File& file, Direction direction, std::uint64_t end,
                      std::chrono::milliseconds limit, std::array<Buffer, kInFlight>& buffers) {
  std::array<Ticket, kInFlight> tickets;
  Result<void> result;
  Pass pass;
  const auto begin = Clock::now();
  std::uint64_t begun = 0;  // requests
  for (std::uint64_t ended = 0;;) {
    const bool in_time = begun == 0 || Clock::now() - begin < limit;
    if (result && in_time && begun < end / kRequestBytes && begun - ended < kInFlight) {
      Buffer& buffer = buffers[begun % kInFlight];
      const Engine::Request request{
          .file = &file, .offset = begun * kRequestBytes, .size_bytes = kRequestBytes};
      tickets[begun++ % kInFlight] = direction == Direction::kRead
                                         ? engine.read(request, std::move(buffer))
                                         : engine.write(request, std::move(buffer));
      continue;
    }
    if (ended == begun) break;
    Completion done = tickets[ended % kInFlight].wait();
    buffers[ended++ % kInFlight] = std::move(done.buffer);
    if (done.transferred) pass.bytes += *done.transferred;
    if (!done.transferred && result) result = tl::unexpected(done.transferred.error());
  }
  if (!result) return tl::unexpected(std::move(result.error()));
  pass.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return pass;
}

std::uint64_t test_bytes(const std::filesystem::path& directory, std::uint64_t wished) {
  std::error_code unknown;
  const auto space = std::filesystem::space(directory, unknown);
  if (!unknown) wished = std::min<std::uint64_t>(wished, space.available / 2);
  return std::max(wished / kRequestBytes * kRequestBytes, std::uint64_t{kRequestBytes});
}

}  // namespace

double PathSpeed::mixed_bytes_per_second() const {
  return 2 / (1 / write_bytes_per_second + 1 / read_bytes_per_second);
}

Result<PathSpeed> measure_path_speed(Engine& engine, const std::filesystem::path& directory,
                                     const PathSpeedOptions& options) {
  static std::atomic<unsigned> last{0};
  const std::uint64_t size_bytes = test_bytes(directory, options.size_bytes);
  auto file = File::create(
      directory / (".spillway-speed." + std::to_string(::getpid()) + "." + std::to_string(++last)),
      {.size_bytes = size_bytes});
  if (!file) return tl::unexpected(std::move(file.error()));
  if (auto removed = file->remove(); !removed) return tl::unexpected(std::move(removed.error()));
  std::array<Buffer, kInFlight> buffers;
  std::generate(buffers.begin(), buffers.end(), noise);
  auto written = run_pass(engine, *file, Direction::kWrite, size_bytes, options.limit, buffers);
  if (!written) return tl::unexpected(std::move(written.error()));
  auto read = run_pass(engine, *file, Direction::kRead, written->bytes, options.limit, buffers);
  if (!read) return tl::unexpected(std::move(read.error()));
  constexpr double kShortest = 1e-9;  // seconds: a clock without progress gives no infinite speed
  return PathSpeed{double(written->bytes) / std::max(written->seconds, kShortest),
                   double(read->bytes) / std::max(read->seconds, kShortest)};
}

}  // namespace spillway::aio
