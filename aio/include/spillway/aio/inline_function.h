// InlineFunction: a move-only function object that keeps what it captures inside itself.
//
// std::function may put its captures on the heap, and an engine allocates nothing per I/O: captures
// of more than kCapacity bytes, or such as cannot be moved without throwing, are a compile error
// here (put them behind a pointer).
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace spillway::aio {

template <typename Signature>
class InlineFunction;

template <typename Result, typename... Arguments>
class InlineFunction<Result(Arguments...)> {
 public:
  static constexpr std::size_t kCapacity = 64;  // bytes

  InlineFunction() = default;
  InlineFunction(std::nullptr_t) {}
  template <typename Function>
  requires(!std::is_same_v<std::remove_cvref_t<Function>, InlineFunction> &&
           std::is_invocable_r_v<Result, std::decay_t<Function>&, Arguments...>)
      InlineFunction(Function&& function) {
    using Stored = std::decay_t<Function>;
    static_assert(sizeof(Stored) <= kCapacity, "the callback captures more than 64 bytes");
    static_assert(alignof(Stored) <= alignof(std::max_align_t));
    static_assert(std::is_nothrow_move_constructible_v<Stored>,
                  "what the callback captures must move without throwing");
    ::new (static_cast<void*>(storage_)) Stored(std::forward<Function>(function));
    call_ = [](std::byte* storage, Arguments... arguments) -> Result {
      return (*std::launder(reinterpret_cast<Stored*>(storage)))(
          std::forward<Arguments>(arguments)...);
    };
    relocate_ = [](std::byte* from, std::byte* to) noexcept {
      auto* stored = std::launder(reinterpret_cast<Stored*>(from));
      if (to != nullptr) ::new (static_cast<void*>(to)) Stored(std::move(*stored));
      stored->~Stored();
    };
  }
  InlineFunction(InlineFunction&& other) noexcept { take(other); }
  InlineFunction& operator=(InlineFunction&& other) noexcept {
    if (this != &other) {
      clear();
      take(other);
    }
    return *this;
  }
  ~InlineFunction() { clear(); }

  explicit operator bool() const noexcept { return call_ != nullptr; }
  // REQUIRES: not empty.
  Result operator()(Arguments... arguments) {
    return call_(storage_, std::forward<Arguments>(arguments)...);
  }

 private:
  void take(InlineFunction& other) noexcept {
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
  Result (*call_)(std::byte*, Arguments...) = nullptr;
  void (*relocate_)(std::byte* from, std::byte* to) noexcept = nullptr;
};

}  // namespace spillway::aio
