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

// The buffers of an EnginePass: one for each request in flight.
struct RequestBuffers {
  std::size_t bytes = 0;  // of each, and of a request
  std::size_t count = 0;
};
// As many bytes as the operations in flight have, which is what fio has.
RequestBuffers hot_buffers(const Setting& setting);

// An Engine with its registered buffers on `file`, made before any clock starts.
class EnginePass {
 public:
  // One request at a time is waited for at once (Engine::read_and_wait). `file` must outlive it.
  static Result<std::unique_ptr<EnginePass>> create(const aio::File& file, std::uint64_t size_bytes,
                                                    const Setting& setting,
                                                    const RequestBuffers& buffers);
  // Moves all `size_bytes` once. Timed; the bytes are not looked at, as fio does not either.
  Result<Run> run();
  // Writes the whole file, a mark in every page, and reads it back: kCorrupt where one is wrong.
  Result<void> check();

 private:
  EnginePass(const aio::File& file, std::uint64_t size_bytes, Mix mix,
             const RequestBuffers& buffers)
      : file_(file), size_bytes_(size_bytes), mix_(mix), buffers_(buffers) {}
  struct Pending;
  enum class Marks { kNone, kWriteAndCheck };
  Result<void> move_all(Mix mix, Marks marks);
  Result<void> move_one_by_one(Mix mix, Marks marks);
  Result<void> finish(const Pending& pending, const aio::Completion& completion, Marks marks) const;

  const aio::File& file_;
  const std::uint64_t size_bytes_;
  const Mix mix_;
  const RequestBuffers buffers_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;
};

}  // namespace spillway::bench
