// Timed passes of an Engine over a file, and what a pass of any contender yields.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/pool.h>
#include <cstdint>
#include <memory>

namespace spillway::bench {

// kReadWrite: 70 reads to 30 writes. kHalf: 50 to 50, which is fio's alone.
enum class Mix : std::uint8_t { kRead, kWrite, kReadWrite, kHalf };

struct Setting {
  Mix mix = Mix::kRead;
  std::uint32_t block_size_bytes = 0;
  std::uint32_t queue_depth = 0;
  std::uint32_t thread_count = 1;
};

struct Run {
  double seconds = 0;
  double cpu_seconds = 0;  // user and system, all threads
  std::uint64_t bytes = 0;
  std::uint64_t system_calls = 0;  // 0 where they are not known

  double gb() const { return static_cast<double>(bytes) / 1e9; }
  double gb_per_second() const { return gb() / seconds; }
  double cpu_per_gb() const { return cpu_seconds / gb(); }
  double calls_per_gb() const { return static_cast<double>(system_calls) / gb(); }
};

// An Engine with its registered buffers on `file`, made before any clock starts.
class EnginePass {
 public:
  // Makes requests of `request_bytes`, `kPending` in flight at a time. Both must outlive it.
  static Result<std::unique_ptr<EnginePass>> create(const aio::File& file, std::uint64_t size_bytes,
                                                    const Setting& setting,
                                                    std::size_t request_bytes);
  // Moves all `size_bytes` once. Timed; the bytes are not looked at, as fio does not either.
  Result<Run> run();
  // Writes the whole file, a mark in every page, and reads it back: kCorrupt where one is wrong.
  Result<void> check();

 private:
  static constexpr std::size_t kPending = 4;

  EnginePass(const aio::File& file, std::uint64_t size_bytes, Mix mix, std::size_t request_bytes)
      : file_(file), size_bytes_(size_bytes), mix_(mix), request_bytes_(request_bytes) {}
  struct Pending;
  enum class Marks { kNone, kWriteAndCheck };
  Result<void> move_all(Mix mix, Marks marks);
  Result<void> finish(Pending pending, Marks marks) const;

  const aio::File& file_;
  const std::uint64_t size_bytes_;
  const Mix mix_;
  const std::size_t request_bytes_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;
};

}  // namespace spillway::bench
