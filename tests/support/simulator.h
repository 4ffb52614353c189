// The simulator: a Backend over real files that fails as disks and kernels do, on demand.
//
// It calls pread and pwrite on the File's descriptor, and injects faults: planned ones (at the Nth
// operation) or random ones from a seed. The same seed and the same order of submission give the
// same run. Keep a SimulatorControl to plan faults later and to count operations. It may be used
// from any thread, and serves all threads of an engine:
//
//   auto control = std::make_shared<SimulatorControl>(SimulatorOptions{.seed = 7});
//   auto engine = Engine::create(options, simulator_backend(control));
//   control->plan({.kind = FaultKind::kError, .nth = 3, .errno_value = EIO});  // 3rd from now
#pragma once

#include <spillway/aio/backend.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <vector>

namespace spillway::aio {

enum class FaultKind {
  kError,           // completes with -errno_value; nothing is moved
  kShort,           // moves a part: `keep_bytes` (direct writes: whole blocks of that)
  kZero,            // moves nothing and says 0
  kLoseCompletion,  // is never reported; a read still writes into its memory when the engine ends
  kStall,           // moves nothing and waits until it is cancelled: then ECANCELED
  kLoseWrite,       // says that all was written, and the old data stays
  kMisdirect,    // moves the bytes to or from `shift_bytes` further on, and says that all is well
  kTear,         // writes only the first `keep_bytes`, and says that all was written
  kReportTwice,  // works, and is reported twice
  kFlipBit,      // a read whose memory differs from the file in one bit
};

struct Fault {
  FaultKind kind = FaultKind::kError;
  std::optional<Direction> direction =
      std::nullopt;                 // of the operations counted; both when not set
  std::uint64_t nth = 1;            // counted from 1, from the moment it is planned
  bool forever = false;             // the nth and all after it
  int errno_value = EIO;            // kError
  std::uint32_t keep_bytes = 512;   // kShort, kTear
  std::int64_t shift_bytes = 4096;  // kMisdirect
};

struct SimulatorOptions {
  std::uint64_t seed = 1;
  double short_chance = 0;             // of a transfer of a random part (at least 1 byte)
  double interrupt_chance = 0;         // of EINTR or EAGAIN
  bool reorder = false;                // completions in random order
  std::uint32_t max_delay_rounds = 0;  // a completion may miss this many reaps
  std::uint32_t accept_at_most = ~0u;  // operations that one submit takes: a full queue
};

class SimulatorControl {
 public:
  explicit SimulatorControl(SimulatorOptions options = {}) : options_(options) {}

  const SimulatorOptions& options() const noexcept { return options_; }
  void plan(const Fault& fault);
  void clear();  // no more planned faults

  std::uint64_t operations() const noexcept { return operations_; }
  std::uint64_t faults() const noexcept { return faults_; }  // planned ones that struck

  // For the Backend: returns the fault of the operation that begins now.
  std::optional<Fault> next(Direction direction);

 private:
  const SimulatorOptions options_;
  std::mutex mutex_;
  std::vector<Fault> planned_;  // nth counts down
  std::atomic<std::uint64_t> operations_{0};
  std::atomic<std::uint64_t> faults_{0};
};

std::unique_ptr<BackendFactory> simulator_backend(std::shared_ptr<SimulatorControl> control);

}  // namespace spillway::aio
