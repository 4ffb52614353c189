// A Backend that records operations and completes none until the gate opens. It moves no bytes.
#pragma once

#include <spillway/aio/backend.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace spillway::aio {

struct Gate {
  std::mutex mutex;
  std::vector<std::uint64_t> offsets;   // of all operations, in order
  std::vector<std::size_t> batches;     // operations of each submit()
  std::atomic<std::uint32_t> open{0};   // operations that may still complete
  std::atomic<std::uint64_t> turns{0};  // of the engine's thread: reap() begins one

  // Waits until the engine's thread has nothing left to submit: it completed two turns and began a
  // third. False if that takes more than 10 s.
  bool settled() {
    const std::uint64_t seen = turns;
    for (int i = 0; i < 10'000 && turns < seen + 3; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return turns >= seen + 3;
  }
  std::size_t count() {
    std::lock_guard lock(mutex);
    return offsets.size();
  }
};

class GatedBackend final : public Backend {
 public:
  GatedBackend(std::shared_ptr<Gate> gate, std::uint32_t depth)
      : gate_(std::move(gate)), depth_(depth) {}
  const char* name() const noexcept override { return "gated"; }
  std::size_t submit(std::span<const Operation> operations) override {
    std::lock_guard lock(gate_->mutex);
    std::size_t taken = 0;
    gate_->batches.push_back(operations.size());
    while (taken < operations.size() && held_.size() < depth_) {
      gate_->offsets.push_back(operations[taken].offset);
      held_.push_back(operations[taken++]);
    }
    return taken;
  }
  std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) override {
    ++gate_->turns;
    // Returns after a millisecond at the latest, so that an idle engine takes turns, too.
    const auto until = std::chrono::steady_clock::now() +
                       std::min<std::chrono::nanoseconds>(timeout, std::chrono::milliseconds(1));
    while (!woken_.exchange(false)) {
      std::size_t n = 0;
      while (n < events.size() && !held_.empty() && gate_->open > 0) {
        --gate_->open;
        events[n++] = {held_.front().user_data,
                       static_cast<std::int32_t>(held_.front().size_bytes)};
        held_.erase(held_.begin());
      }
      if (n > 0) return n;
      if (std::chrono::steady_clock::now() >= until) return 0;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return 0;
  }
  void cancel_all() override { gate_->open = 1'000'000; }
  void cancel(std::uint64_t) override {}
  void wake() noexcept override { woken_ = true; }
  Result<void> register_memory(std::span<std::byte>) override { return {}; }
  void unregister_memory(std::span<std::byte>) override {}
  void register_file(int) override {}
  void unregister_file(int) override {}
  std::uint64_t system_calls() const noexcept override { return 0; }

 private:
  std::shared_ptr<Gate> gate_;
  const std::uint32_t depth_;
  std::vector<Operation> held_;
  std::atomic<bool> woken_{false};
};

class GatedFactory final : public BackendFactory {
 public:
  explicit GatedFactory(std::shared_ptr<Gate> gate) : gate_(std::move(gate)) {}
  Result<std::unique_ptr<Backend>> make(std::uint32_t depth) override {
    return std::make_unique<GatedBackend>(gate_, depth);
  }

 private:
  std::shared_ptr<Gate> gate_;
};

}  // namespace spillway::aio
