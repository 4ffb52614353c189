// Copies a file past the page cache, with several large requests in flight:
//
//   fast_copy [--verify] SOURCE DESTINATION
//
// Holes stay holes, the mode is kept, any size will do. The bytes go to DESTINATION.partial, which
// takes the name DESTINATION when they are on the disk: whoever looks sees the old file or the new
// one, whole. A failure or Ctrl-C leaves nothing. --verify reads both files again, from the disk.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/pool.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using pinned_pool::Lease;

constexpr std::size_t kRequestBytes = 4 << 20;  // split into blocks by the engine
constexpr std::size_t kRequests = 16;           // in flight: 64 MiB of memory
volatile std::sig_atomic_t g_interrupted = 0;

// A run of bytes of a file: at most kRequestBytes, none of them in a hole.
struct Chunk {
  std::uint64_t offset = 0;
  std::size_t size_bytes = 0;
};

// What of the file holds data. Filesystems that know no holes say: all of it.
Result<std::vector<Chunk>> data_of(const aio::File& file, std::uint64_t size_bytes) {
  std::vector<Chunk> chunks;
  for (std::uint64_t at = 0; at < size_bytes;) {
    const off_t from = ::lseek(file.fd(), static_cast<off_t>(at), SEEK_DATA);
    if (from < 0 && errno == ENXIO) break;  // the rest is a hole
    const off_t to = from < 0 ? from : ::lseek(file.fd(), from, SEEK_HOLE);
    if (to < 0) return errno_error("look for holes", file.path(), errno);
    const auto end = std::min(static_cast<std::uint64_t>(to), size_bytes);
    for (at = static_cast<std::uint64_t>(from); at < end;) {
      const std::uint64_t left = std::min<std::uint64_t>(end - at, kRequestBytes);
      chunks.push_back({.offset = at, .size_bytes = static_cast<std::size_t>(left)});
      at += left;
    }
  }
  return chunks;
}

// A file that is removed again unless it was given its final name.
class PartialFile {
 public:
  static Result<PartialFile> create(const std::filesystem::path& path) {
    return aio::File::create(path, {}).map(
        [](aio::File&& file) { return PartialFile(std::move(file)); });
  }
  PartialFile(PartialFile&& other) noexcept : file_(std::exchange(other.file_, std::nullopt)) {}
  ~PartialFile() {
    if (file_) (void)file_->remove();
  }
  aio::File& file() { return *file_; }

  // Its final size and its mode; room for the chunks, so that a full disk is known beforehand.
  Result<void> prepare(std::uint64_t size_bytes, mode_t mode, const std::vector<Chunk>& chunks) {
    if (::ftruncate(file_->fd(), static_cast<off_t>(size_bytes)) != 0 ||
        ::fchmod(file_->fd(), mode & 07777) != 0) {
      return errno_error("prepare", file_->path(), errno);
    }
    for (const Chunk& chunk : chunks) {
      if (::fallocate(file_->fd(), 0, static_cast<off_t>(chunk.offset),
                      static_cast<off_t>(chunk.size_bytes)) == 0) {
        continue;
      }
      if (errno == EOPNOTSUPP) break;  // then a full disk shows when it is full
      return errno_error("preallocate", file_->path(), errno);
    }
    return {};
  }
  Result<void> publish(const std::filesystem::path& path) {
    if (std::rename(file_->path().c_str(), path.c_str()) != 0) {
      return errno_error("rename to", path.string(), errno);
    }
    file_.reset();
    return {};
  }

 private:
  explicit PartialFile(aio::File file) : file_(std::move(file)) {}
  std::optional<aio::File> file_;
};

// Moves chunks by read and write requests that wait for nothing but a free buffer.
class Copier {
 public:
  Copier(aio::Engine& engine, pinned_pool::Pool& pool) : engine_(engine), pool_(pool) {}
  // After a failure some are in flight: their buffers are the pool's again before it goes.
  ~Copier() {
    for (Request& request : reads_) request.ticket.wait();
    for (Request& request : writes_) request.ticket.wait();
  }

  Result<void> copy(const aio::File& from, const aio::File& to, const std::vector<Chunk>& chunks) {
    for (auto next = chunks.begin(); next != chunks.end() || !reads_.empty() || !writes_.empty();) {
      if (g_interrupted) return make_error(ErrorKind::kCancelled, "copy", from.path(), "");
      Lease lease = next != chunks.end() ? pool_.try_acquire() : Lease();
      if (lease) {
        start_read(from, *next++, std::move(lease));
      } else if (reads_.size() >= writes_.size()) {  // so that both go on side by side
        auto read = finish(reads_);
        if (!read) return tl::unexpected(read.error());
        writes_.push_back({read->chunk, engine_.write(request(to, read->chunk),
                                                      std::move(read->lease).release())});
      } else if (auto written = finish(writes_); !written) {
        return tl::unexpected(written.error());
      }
    }
    return {};
  }

  // kCorrupt when a chunk of the two is not the same.
  Result<void> compare(const aio::File& a, const aio::File& b, const std::vector<Chunk>& chunks) {
    for (auto next = chunks.begin(); next != chunks.end() || !reads_.empty();) {
      if (g_interrupted) return make_error(ErrorKind::kCancelled, "verify", b.path(), "");
      if (next != chunks.end() && pool_.available() >= 2) {
        start_read(a, *next, pool_.acquire());
        start_read(b, *next++, pool_.acquire());
        continue;
      }
      auto read_a = finish(reads_);
      if (!read_a) return tl::unexpected(read_a.error());
      auto read_b = finish(reads_);
      if (!read_b) return tl::unexpected(read_b.error());
      const Chunk& chunk = read_a->chunk;
      if (std::memcmp(read_a->lease.data(), read_b->lease.data(), chunk.size_bytes) != 0) {
        return make_error(ErrorKind::kCorrupt, "verify", b.path(),
                          "differs in the " + std::to_string(chunk.size_bytes) + " bytes at " +
                              std::to_string(chunk.offset));
      }
    }
    return {};
  }

 private:
  struct Request {
    Chunk chunk;
    aio::Ticket ticket;
  };
  struct Moved {
    Chunk chunk;
    Lease lease;  // the buffer is the pool's again when this goes
  };

  static aio::Engine::Request request(const aio::File& file, const Chunk& chunk) {
    return {.file = &file, .offset = chunk.offset, .size_bytes = chunk.size_bytes};
  }
  void start_read(const aio::File& file, const Chunk& chunk, Lease lease) {
    reads_.push_back({chunk, engine_.read(request(file, chunk), std::move(lease).release())});
  }
  static Result<Moved> finish(std::deque<Request>& requests) {
    Request oldest = std::move(requests.front());
    requests.pop_front();
    aio::Completion completion = oldest.ticket.wait();
    if (!completion.transferred) return tl::unexpected(completion.transferred.error());
    return Moved{oldest.chunk, Lease(std::move(completion.buffer))};
  }

  aio::Engine& engine_;
  pinned_pool::Pool& pool_;
  std::deque<Request> reads_;  // oldest first
  std::deque<Request> writes_;
};

// The bytes copied, holes not counted.
Result<std::uint64_t> fast_copy(const std::filesystem::path& source,
                                const std::filesystem::path& destination, bool verify) {
  auto from = aio::File::open(source);
  if (!from) return tl::unexpected(from.error());
  struct stat status {};
  if (::fstat(from->fd(), &status) != 0) return errno_error("stat", source.string(), errno);
  const auto size_bytes = from->size_bytes();
  if (!size_bytes) return tl::unexpected(size_bytes.error());
  const auto chunks = data_of(*from, *size_bytes);
  if (!chunks) return tl::unexpected(chunks.error());

  // Made before the engine, so that it is removed after the last request to it has ended.
  auto to = PartialFile::create(destination.string() + ".partial");
  if (!to) return tl::unexpected(to.error());
  auto engine = aio::Engine::create({});
  if (!engine) return tl::unexpected(engine.error());
  auto pool = pinned_pool::Pool::create(
      {.buffer_bytes = kRequestBytes, .buffer_count = kRequests, .name = "copy"}, engine->get());
  if (!pool) return tl::unexpected(pool.error());

  Copier copier(**engine, **pool);
  return to->prepare(*size_bytes, status.st_mode, *chunks)
      .and_then([&] { return copier.copy(*from, to->file(), *chunks); })
      // On the disk first, then under its name, so that the name is never one of half a file.
      .and_then([&] { return to->file().sync(); })
      .and_then(
          [&] { return verify ? copier.compare(*from, to->file(), *chunks) : Result<void>(); })
      .and_then([&] { return to->publish(destination); })
      .map([&] {
        std::uint64_t bytes = 0;
        for (const Chunk& chunk : *chunks) bytes += chunk.size_bytes;
        return bytes;
      });
}

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool verify = std::erase(arguments, "--verify") > 0;
  if (arguments.size() != 2 || arguments[0].starts_with("-")) {
    std::fprintf(stderr, "usage: fast_copy [--verify] SOURCE DESTINATION\n");
    return 2;
  }
  std::signal(SIGINT, [](int) { g_interrupted = 1; });
  std::signal(SIGTERM, [](int) { g_interrupted = 1; });

  const std::filesystem::path source = arguments[0];
  std::filesystem::path destination = arguments[1];
  std::error_code ignored;
  if (std::filesystem::is_directory(destination, ignored)) destination /= source.filename();
  if (std::filesystem::equivalent(source, destination, ignored)) {
    std::fprintf(stderr, "fast_copy: %s and %s are the same file\n", source.c_str(),
                 destination.c_str());
    return 1;
  }
  const auto start = std::chrono::steady_clock::now();
  const Result<std::uint64_t> copied = fast_copy(source, destination, verify);
  if (!copied) {
    std::fprintf(stderr, "fast_copy: %s\n", copied.error().message().c_str());
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%s: %llu bytes of data in %.2f s%s, %.2f GB/s\n", destination.c_str(),
              static_cast<unsigned long long>(*copied), took.count(), verify ? ", verified" : "",
              static_cast<double>(*copied) / took.count() / 1e9);
  return 0;
}
