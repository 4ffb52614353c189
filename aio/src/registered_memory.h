// RegisteredMemory: the memory registered with a ring (IORING_REGISTER_BUFFERS), by address.
//
// A registration has at most 1 GiB (io_uring_register_buffers(3)), so larger memory takes several
// slots of the ring's table. Threads: one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace spillway::aio {

class RegisteredMemory {
 public:
  static constexpr std::size_t kSlotBytes = std::size_t{1} << 30;

  struct Slot {
    std::byte* data = nullptr;
    std::size_t size_bytes = 0;
    std::uint16_t index = 0;
  };

  explicit RegisteredMemory(std::uint16_t slots) {
    for (std::uint16_t i = slots; i > 0; --i) free_.push_back(static_cast<std::uint16_t>(i - 1));
    slots_.reserve(slots);
  }

  // Returns the slots that `memory` needs, or none if the table has too few free.
  std::vector<Slot> plan(std::span<std::byte> memory) const {
    std::vector<Slot> result;
    for (std::size_t at = 0; at < memory.size(); at += kSlotBytes) {
      if (result.size() == free_.size()) return {};
      result.push_back({memory.data() + at, std::min(kSlotBytes, memory.size() - at),
                        free_[free_.size() - 1 - result.size()]});
    }
    return result;
  }

  void add(const Slot& slot) {
    free_.erase(std::find(free_.begin(), free_.end(), slot.index));
    slots_.insert(std::upper_bound(slots_.begin(), slots_.end(), slot.data, starts_after), slot);
  }

  // Removes every slot inside `memory` and returns them.
  std::vector<Slot> take(std::span<std::byte> memory) {
    std::less_equal<> ordered;  // of pointers into different objects
    std::vector<Slot> result;
    std::erase_if(slots_, [&](const Slot& slot) {
      bool inside = ordered(memory.data(), slot.data) &&
                    ordered(slot.data + slot.size_bytes, memory.data() + memory.size());
      if (inside) result.push_back(slot);
      return inside;
    });
    for (const Slot& slot : result) free_.push_back(slot.index);
    return result;
  }

  // Returns the slot that holds all of [data, data + size_bytes). An operation across the border of
  // two slots (one per GiB) has none and runs unregistered.
  std::optional<std::uint16_t> find(const std::byte* data, std::size_t size_bytes) const {
    auto after = std::upper_bound(slots_.begin(), slots_.end(), data, starts_after);
    if (after == slots_.begin()) return std::nullopt;
    const Slot& slot = *(after - 1);
    std::size_t skipped = static_cast<std::size_t>(data - slot.data);
    if (skipped > slot.size_bytes || slot.size_bytes - skipped < size_bytes) return std::nullopt;
    return slot.index;
  }

 private:
  static bool starts_after(const std::byte* data, const Slot& slot) {
    return std::less<>()(data, static_cast<const std::byte*>(slot.data));
  }

  std::vector<Slot> slots_;  // by address
  std::vector<std::uint16_t> free_;
};

}  // namespace spillway::aio
