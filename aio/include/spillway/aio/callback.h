// Callback: the completion callback of a request, with its captures stored inline.
//
// std::function may allocate its captures on the heap, but an engine allocates nothing per I/O.
// Captures of more than kCapacity bytes, or with a move that may throw, do not compile here: put
// them behind a pointer. Move-only. Threads: one at a time.
#pragma once

#include <spillway/aio/ticket.h>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace spillway::aio {

class Callback {
 public:
  static constexpr std::size_t kCapacity = 64;  // bytes

  // Empty.
  Callback() = default;
  Callback(std::nullptr_t) {}
  // Stores `function`.
  template <typename Function>
  requires(!std::is_same_v<std::remove_cvref_t<Function>, Callback> &&
           std::is_invocable_r_v<void, std::decay_t<Function>&, Completion>)
      Callback(Function&& function) {
    using Stored = std::decay_t<Function>;
    static_assert(sizeof(Stored) <= kCapacity, "the callback captures more than 64 bytes");
    static_assert(alignof(Stored) <= alignof(std::max_align_t));
    static_assert(std::is_nothrow_move_constructible_v<Stored>,
                  "what the callback captures must move without throwing");
    ::new (static_cast<void*>(storage_)) Stored(std::forward<Function>(function));
    call_ = [](std::byte* storage, Completion completion) {
      (*std::launder(reinterpret_cast<Stored*>(storage)))(std::move(completion));
    };
    relocate_ = [](std::byte* from, std::byte* to) noexcept {
      auto* stored = std::launder(reinterpret_cast<Stored*>(from));
      if (to != nullptr) ::new (static_cast<void*>(to)) Stored(std::move(*stored));
      stored->~Stored();
    };
  }
  // Leaves the other one empty.
  Callback(Callback&& other) noexcept { take(other); }
  Callback& operator=(Callback&& other) noexcept {
    if (this != &other) {
      clear();
      take(other);
    }
    return *this;
  }
  ~Callback() { clear(); }

  explicit operator bool() const noexcept { return call_ != nullptr; }
  // Calls the stored function. REQUIRES: not empty.
  void operator()(Completion completion) { call_(storage_, std::move(completion)); }

 private:
  void take(Callback& other) noexcept {
    if (other.call_ == nullptr) return;
    other.relocate_(other.storage_, storage_);
    call_ = std::exchange(other.call_, nullptr);
    relocate_ = std::exchange(other.relocate_, nullptr);
  }
  void clear() noexcept {
    if (call_ != nullptr) relocate_(storage_, nullptr);
    call_ = nullptr;
  }

  alignas(std::max_align_t) std::byte storage_[kCapacity];
  void (*call_)(std::byte*, Completion) = nullptr;
  void (*relocate_)(std::byte* from, std::byte* to) noexcept = nullptr;
};

}  // namespace spillway::aio
