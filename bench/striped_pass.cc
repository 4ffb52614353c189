// One timed write and read of a striped file, every page of which says where it belongs.
//
// Usage: striped_pass MiB SPEEDS directory... SPEEDS: "measured", or one number a directory: "1,3".
// Prints a line of JSON: seconds of each pass, the weights taken, CPU seconds of both passes. The
// file is made anew, filled once before the clock starts, and removed. Exits with 1 when it cannot
// be made or a page is wrong. striped.py runs it on disks of known speed.
#include <sys/resource.h>

#include <spillway/aio/striped_file.h>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace spillway::bench {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kRequestBytes = std::size_t{8} << 20;
constexpr std::size_t kInFlight = 8;

std::uint64_t stamp_of(std::uint64_t offset) {
  return (offset / kPageBytes + 1) * 0x9e3779b97f4a7c15;
}

void stamp(std::byte* data, std::uint64_t offset) {
  for (std::size_t at = 0; at < kRequestBytes; at += kPageBytes) {
    const std::uint64_t word = stamp_of(offset + at);
    std::memcpy(data + at, &word, sizeof word);
  }
}

bool stamped(const std::byte* data, std::uint64_t offset) {
  for (std::size_t at = 0; at < kRequestBytes; at += kPageBytes) {
    std::uint64_t word = 0;
    std::memcpy(&word, data + at, sizeof word);
    if (word != stamp_of(offset + at)) return false;
  }
  return true;
}

std::vector<aio::Buffer> noise() {
  std::vector<aio::Buffer> buffers;
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i < kInFlight; ++i) {
    buffers.push_back(aio::Buffer::allocate(kRequestBytes));
    for (std::size_t at = 0; at < kRequestBytes; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(buffers.back().data() + at, &word, sizeof word);
    }
  }
  return buffers;
}

// Front to back; seconds.
Result<double> run_pass(aio::StripedFile& file, aio::Direction direction,
                        std::vector<aio::Buffer>& buffers) {
  struct Pending {
    std::uint64_t offset;
    aio::StripedTicket ticket;
  };
  std::deque<Pending> pending;
  Result<void> result;
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t offset = 0; (result && offset < file.size_bytes()) || !pending.empty();) {
    if (result && offset < file.size_bytes() && !buffers.empty()) {
      aio::Buffer buffer = std::move(buffers.back());
      buffers.pop_back();
      const aio::StripedFile::Request request{.offset = offset, .size_bytes = kRequestBytes};
      if (direction == aio::Direction::kWrite) stamp(buffer.data(), offset);
      pending.push_back({offset, direction == aio::Direction::kWrite
                                     ? file.write(request, std::move(buffer))
                                     : file.read(request, std::move(buffer))});
      offset += kRequestBytes;
      continue;
    }
    aio::Completion done = pending.front().ticket.wait();
    if (!done.transferred) {
      result = tl::unexpected(done.transferred.error());
    } else if (direction == aio::Direction::kRead &&
               !stamped(done.buffer.data(), pending.front().offset)) {
      result = make_error(ErrorKind::kCorrupt, "read", "", "a page is not the one written");
    }
    pending.pop_front();
    buffers.push_back(std::move(done.buffer));
  }
  if (!result) return tl::unexpected(result.error());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

Result<void> measure(aio::StripedFile& file) {
  std::vector<aio::Buffer> buffers = noise();
  if (auto filled = run_pass(file, aio::Direction::kWrite, buffers); !filled) {
    return tl::unexpected(filled.error());
  }
  const double before = cpu_seconds();
  auto written = run_pass(file, aio::Direction::kWrite, buffers);
  if (!written) return tl::unexpected(written.error());
  auto read = run_pass(file, aio::Direction::kRead, buffers);
  if (!read) return tl::unexpected(read.error());
  std::string weights;
  for (const std::uint32_t weight : file.map().weights()) {
    weights += (weights.empty() ? "" : ", ") + std::to_string(weight);
  }
  std::printf(
      "{\"bytes\": %llu, \"write_s\": %.4f, \"read_s\": %.4f, \"cpu_s\": %.4f, "
      "\"weights\": [%s]}\n",
      static_cast<unsigned long long>(file.size_bytes()), *written, *read, cpu_seconds() - before,
      weights.c_str());
  return {};
}

Result<void> run(std::uint64_t size_bytes, const std::string& speeds,
                 const aio::StripedLocation& location) {
  aio::StripedCreateOptions options{.size_bytes = size_bytes, .direct = aio::Direct::kRequired};
  std::istringstream words(speeds == "measured" ? "" : speeds);
  for (std::string word; std::getline(words, word, ',');) {
    options.speeds.push_back(std::atof(word.c_str()));
  }
  auto engine = aio::Engine::create({});
  if (!engine) return tl::unexpected(engine.error());
  auto file = aio::StripedFile::create({engine->get()}, location, options);
  if (!file) return tl::unexpected(file.error());
  auto measured = measure(*file);
  auto removed = file->remove();
  return measured ? removed : measured;
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  const int mib = argc > 1 ? std::atoi(argv[1]) : 0;
  if (argc < 4 || mib < 8 || mib % 8 != 0) {
    std::fprintf(stderr, "usage: striped_pass MiB (a multiple of 8) measured|1,3 directory...\n");
    return 2;
  }
  spillway::aio::StripedLocation location{.directories = {}, .name = ".striped_pass"};
  for (int i = 3; i < argc; ++i) location.directories.emplace_back(argv[i]);
  const auto done = spillway::bench::run(std::uint64_t(mib) << 20, argv[2], location);
  if (!done) {
    std::fprintf(stderr, "striped_pass: %s\n", done.error().message().c_str());
    return 1;
  }
  return 0;
}
