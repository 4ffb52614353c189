// The table of handles: what a C caller holds instead of pointers.
//
// A handle is (generation, kind, place), written as a pointer and never followed. Destroying an
// object frees its place for the next generation, so an old handle is always found out, until a
// place was used 2^36 times. Objects are shared while a call works on them: one that another thread
// destroys meanwhile ends with that call. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "failure.h"

namespace spillway::c {

enum class Kind : std::uint8_t { kEngine = 1, kFile, kPool, kLease, kRequest, kStore };

class Object {
 public:
  explicit Object(Kind kind) : kind_(kind) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  Kind kind() const noexcept { return kind_; }
  // How many others need this one.
  std::atomic<std::uint32_t> users{0};

 private:
  const Kind kind_;
};

// Keeps another object from being destroyed by its owner. Empty or not.
template <typename T>
class Use {
 public:
  Use() = default;
  explicit Use(std::shared_ptr<T> object) : object_(std::move(object)) {
    if (object_) object_->users.fetch_add(1);
  }
  Use(Use&& other) noexcept : object_(std::move(other.object_)) {}
  Use& operator=(Use&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Use() {
    if (object_) object_->users.fetch_sub(1);
  }
  T* operator->() const noexcept { return object_.get(); }
  T* get() const noexcept { return object_.get(); }
  explicit operator bool() const noexcept { return object_ != nullptr; }

 private:
  std::shared_ptr<T> object_;
};

// The handle of a new object.
void* add_object(std::shared_ptr<Object> object);
// The object of a handle, or SPILLWAY_BAD_HANDLE.
tl::expected<std::shared_ptr<Object>, spillway_status> find_object(const void* handle, Kind kind,
                                                                   const char* operation);
// Takes the handle back and lets go of the object. SPILLWAY_IN_USE while it has users.
spillway_status remove_object(const void* handle, Kind kind, const char* operation);

// As find_object, for a class that names its kind.
template <typename T>
tl::expected<std::shared_ptr<T>, spillway_status> find(const void* handle, const char* operation) {
  auto object = find_object(handle, T::kKind, operation);
  if (!object) return tl::unexpected(object.error());
  return std::static_pointer_cast<T>(std::move(*object));
}

}  // namespace spillway::c
