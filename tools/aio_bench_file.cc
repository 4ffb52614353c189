#include "aio_bench_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace spillway::aio_bench {
namespace {

// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

std::uint64_t stamp_of(std::uint64_t page, std::uint64_t pass) { return mix(page ^ mix(pass)); }

// Between the creation of the file and its unlinking no Ctrl-C may end the process.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before_);
  }
  ~SignalsHeldBack() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;

 private:
  sigset_t before_;
};

Result<aio::File> create_unnamed(const std::filesystem::path& path) {
  const SignalsHeldBack held;
  auto file = aio::File::create(path, {.size_bytes = 0, .direct = aio::Direct::kRequired});
  if (!file) return file;
  if (auto removed = file->remove(); !removed) return tl::unexpected(removed.error());
  return file;
}

}  // namespace

Pattern::Pattern() : body_(kPeriodBytes / sizeof(std::uint64_t)) {
  for (std::size_t i = 0; i < body_.size(); ++i) body_[i] = mix(i);
}

void Pattern::fill(std::span<std::byte> data) const {
  for (std::size_t at = 0; at < data.size(); at += kPeriodBytes) {
    std::memcpy(data.data() + at, body_.data(), std::min(kPeriodBytes, data.size() - at));
  }
}

void Pattern::stamp(std::span<std::byte> data, std::uint64_t offset, std::uint64_t pass) {
  for (std::size_t at = 0; at < data.size(); at += kPageBytes) {
    const std::uint64_t word = stamp_of((offset + at) / kPageBytes, pass);
    std::memcpy(data.data() + at, &word, sizeof word);
  }
}

std::optional<std::uint64_t> Pattern::wrong_stamp(std::span<const std::byte> data,
                                                  std::uint64_t offset, std::uint64_t pass) {
  for (std::size_t at = 0; at < data.size(); at += kPageBytes) {
    std::uint64_t word = 0;
    std::memcpy(&word, data.data() + at, sizeof word);
    if (word != stamp_of((offset + at) / kPageBytes, pass)) return offset + at;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> Pattern::wrong_page(std::span<const std::byte> data,
                                                 std::uint64_t offset, std::uint64_t pass) const {
  constexpr std::size_t kStampBytes = sizeof(std::uint64_t);
  const auto* body = reinterpret_cast<const std::byte*>(body_.data());
  const auto stamped = wrong_stamp(data, offset, pass);
  for (std::size_t at = 0; at < data.size(); at += kPageBytes) {
    if (stamped == offset + at) return stamped;
    const std::size_t place = (offset + at) % kPeriodBytes;
    if (std::memcmp(data.data() + at + kStampBytes, body + place + kStampBytes,
                    kPageBytes - kStampBytes) != 0) {
      return offset + at;
    }
  }
  return std::nullopt;
}

Result<TestFile> TestFile::create(const std::filesystem::path& directory,
                                  std::uint64_t size_bytes) {
  const auto path = directory / (".aio_bench." + std::to_string(getpid()));
  auto file = create_unnamed(path);
  if (!file) return tl::unexpected(file.error());
  // Where the filesystem cannot allocate, the writes of the first pass do it.
  if (fallocate(file->fd(), 0, 0, static_cast<off_t>(size_bytes)) != 0 && errno != EOPNOTSUPP) {
    return errno_error("allocate the test file", path.string(), errno,
                       std::to_string(size_bytes) + " bytes");
  }
  return TestFile{.file = std::move(*file), .size_bytes = size_bytes};
}

}  // namespace spillway::aio_bench
