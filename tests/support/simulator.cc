#include "support/simulator.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <utility>

namespace spillway::aio {

void SimulatorControl::plan(const Fault& fault) {
  std::lock_guard lock(mutex_);
  planned_.push_back(fault);
}

void SimulatorControl::clear() {
  std::lock_guard lock(mutex_);
  planned_.clear();
}

std::optional<Fault> SimulatorControl::next(Direction direction) {
  ++operations_;
  std::lock_guard lock(mutex_);
  std::optional<Fault> strikes;
  for (Fault& fault : planned_) {
    if (fault.direction && *fault.direction != direction) continue;
    if (fault.nth > 1) {
      --fault.nth;
    } else if (!strikes && fault.nth == 1) {
      strikes = fault;
      if (!fault.forever) fault.nth = 0;  // spent
    }
  }
  if (strikes) ++faults_;
  return strikes;
}

namespace {

// Moves all of it, as a disk without faults would. Returns bytes or -errno.
std::int32_t transfer(const Operation& operation, std::uint32_t size_bytes) {
  if (operation.write_back) {
    const int rc = ::sync_file_range(
        operation.fd, static_cast<off_t>(operation.offset), operation.size_bytes,
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    return rc == 0 ? 0 : -errno;
  }
  auto offset = static_cast<off_t>(operation.offset);
  ssize_t n = operation.direction == Direction::kRead
                  ? ::pread(operation.fd, operation.data, size_bytes, offset)
                  : ::pwrite(operation.fd, operation.data, size_bytes, offset);
  return n < 0 ? -errno : static_cast<std::int32_t>(n);
}

// Moves the first `size_bytes` of it only. What a short read leaves is filled with rubbish, so that
// it must be read again. Direct I/O writes whole blocks: the part is cut to what the file accepts,
// which may be nothing.
std::int32_t transfer_part(const Operation& operation, std::uint32_t size_bytes) {
  if (operation.direction == Direction::kRead) {
    std::int32_t moved = transfer(operation, operation.size_bytes);
    auto part = static_cast<std::int32_t>(size_bytes);
    if (moved <= part) return moved;
    std::memset(operation.data + part, 0xee, operation.size_bytes - size_bytes);
    return part;
  }
  for (std::uint32_t block : {1u, 512u, 4096u}) {
    std::uint32_t whole = size_bytes / block * block;
    std::int32_t moved = whole == 0 ? 0 : transfer(operation, whole);
    if (moved != -EINVAL) return moved;
  }
  return 0;
}

// As transfer_part, but never nothing: 0 would be another fault.
std::int32_t transfer_short(const Operation& operation, std::uint32_t size_bytes) {
  std::int32_t moved = transfer_part(operation, size_bytes);
  return moved != 0 ? moved : transfer(operation, operation.size_bytes);
}

class SimulatorBackend final : public Backend {
 public:
  SimulatorBackend(std::shared_ptr<SimulatorControl> control, std::uint32_t queue_depth,
                   std::uint64_t seed)
      : control_(std::move(control)), queue_depth_(queue_depth), random_(seed) {}

  // The device that never answered still holds the memory of lost reads. It writes there now, so
  // that memory given back too early is seen (by ASan, or by whoever owns it now).
  ~SimulatorBackend() override {
    for (const Operation& operation : lost_) {
      if (operation.direction == Direction::kRead) transfer(operation, operation.size_bytes);
    }
  }

  const char* name() const noexcept override { return "simulator"; }

  std::size_t submit(std::span<const Operation> operations) override {
    const SimulatorOptions& options = control_->options();
    std::size_t taken = 0;
    while (taken < operations.size() && taken < options.accept_at_most &&
           held_.size() + lost_.size() + stalled_.size() < queue_depth_) {
      start(operations[taken++]);
    }
    ++system_calls_;
    return taken;
  }

  std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) override {
    std::unique_lock lock(mutex_);
    ++system_calls_;
    if (held_.empty() && timeout > timeout.zero()) {
      timeout = std::min<std::chrono::nanoseconds>(timeout, std::chrono::hours(1));
      wakes_.wait_for(lock, timeout, [&] { return awake_; });
    }
    awake_ = false;
    if (control_->options().reorder) std::shuffle(held_.begin(), held_.end(), random_);
    std::size_t n = 0;
    std::erase_if(held_, [&](Held& held) {
      if (n == events.size()) return false;
      if (held.delay_rounds > 0 && held.delay_rounds-- > 0) return false;
      events[n++] = held.event;
      return true;
    });
    return n;
  }

  void cancel_all() override {
    std::lock_guard lock(mutex_);
    while (!stalled_.empty()) end_stalled(stalled_.begin());
  }
  void cancel(std::uint64_t user_data) override {
    std::lock_guard lock(mutex_);
    auto stalled = std::find_if(stalled_.begin(), stalled_.end(), [&](const Operation& operation) {
      return operation.user_data == user_data;
    });
    if (stalled != stalled_.end()) end_stalled(stalled);
  }
  void wake() noexcept override {
    std::lock_guard lock(mutex_);
    awake_ = true;
    wakes_.notify_one();
  }
  Result<void> register_memory(std::span<std::byte>) override { return {}; }
  void unregister_memory(std::span<std::byte>) override {}
  void register_file(int) override {}
  void unregister_file(int) override {}
  std::uint64_t system_calls() const noexcept override { return system_calls_; }

 private:
  struct Held {
    Event event;
    std::uint32_t delay_rounds = 0;
  };

  void end_stalled(std::vector<Operation>::iterator stalled) {
    held_.push_back({{.user_data = stalled->user_data, .result = -ECANCELED}, 0});
    stalled_.erase(stalled);
  }

  bool chance(double p) { return p > 0 && std::uniform_real_distribution<>(0, 1)(random_) < p; }

  void start(const Operation& operation) {
    const SimulatorOptions& options = control_->options();
    std::optional<Fault> fault = control_->next(operation.direction);
    std::int32_t result = 0;
    if (fault && fault->kind == FaultKind::kLoseCompletion) {
      lost_.push_back(operation);
      return;
    }
    if (fault && fault->kind == FaultKind::kStall) {
      stalled_.push_back(operation);
      return;
    }
    if (fault) {
      result = strike(operation, *fault);
    } else if (chance(options.interrupt_chance)) {
      result = chance(0.5) ? -EINTR : -EAGAIN;
    } else if (!operation.write_back && operation.size_bytes > 1 && chance(options.short_chance)) {
      std::uniform_int_distribution<std::uint32_t> part(1, operation.size_bytes - 1);
      result = transfer_short(operation, part(random_));
    } else {
      result = transfer(operation, operation.size_bytes);
    }
    std::uniform_int_distribution<std::uint32_t> delay(0, options.max_delay_rounds);
    held_.push_back({{.user_data = operation.user_data, .result = result}, delay(random_)});
    if (fault && fault->kind == FaultKind::kReportTwice) held_.push_back(held_.back());
  }

  std::int32_t strike(const Operation& operation, const Fault& fault) {
    if (operation.write_back && fault.kind != FaultKind::kError) {
      return transfer(operation, operation.size_bytes);
    }
    auto all = static_cast<std::int32_t>(operation.size_bytes);
    bool write = operation.direction == Direction::kWrite;
    switch (fault.kind) {
      case FaultKind::kError:
        return -fault.errno_value;
      case FaultKind::kZero:
      case FaultKind::kLoseCompletion:
      case FaultKind::kStall:
        return 0;
      case FaultKind::kReportTwice:
        return transfer(operation, operation.size_bytes);
      case FaultKind::kShort:
        return transfer_short(operation, std::min(fault.keep_bytes, operation.size_bytes - 1));
      case FaultKind::kLoseWrite:
        return write ? all : transfer(operation, operation.size_bytes);
      case FaultKind::kMisdirect: {
        Operation elsewhere = operation;
        elsewhere.offset += static_cast<std::uint64_t>(fault.shift_bytes);
        return transfer(elsewhere, operation.size_bytes);
      }
      case FaultKind::kTear:
        if (!write) return transfer(operation, operation.size_bytes);
        transfer_part(operation, std::min(fault.keep_bytes, operation.size_bytes));
        return all;
      case FaultKind::kFlipBit: {
        std::int32_t moved = transfer(operation, operation.size_bytes);
        if (!write && moved > 0) {
          std::uniform_int_distribution<std::int32_t> at(0, moved - 1);
          operation.data[at(random_)] ^= std::byte{1};
        }
        return moved;
      }
    }
    return -EIO;
  }

  std::shared_ptr<SimulatorControl> control_;  // shared with the test that plans the faults
  const std::uint32_t queue_depth_;
  std::mt19937_64 random_;
  std::vector<Held> held_;
  std::vector<Operation> lost_;
  std::vector<Operation> stalled_;
  std::uint64_t system_calls_ = 0;
  std::mutex mutex_;
  std::condition_variable wakes_;
  bool awake_ = false;
};

class SimulatorFactory final : public BackendFactory {
 public:
  explicit SimulatorFactory(std::shared_ptr<SimulatorControl> control)
      : control_(std::move(control)) {}
  Result<std::unique_ptr<Backend>> make(std::uint32_t queue_depth) override {
    return std::make_unique<SimulatorBackend>(control_, queue_depth,
                                              control_->options().seed + made_++);
  }

 private:
  std::shared_ptr<SimulatorControl> control_;
  std::uint64_t made_ = 0;
};

}  // namespace

std::unique_ptr<BackendFactory> simulator_backend(std::shared_ptr<SimulatorControl> control) {
  return std::make_unique<SimulatorFactory>(std::move(control));
}

}  // namespace spillway::aio
