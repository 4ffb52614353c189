// The table of handles, which a C caller holds instead of pointers.
//
// A handle is (generation, kind, place), written as a pointer and never dereferenced. Destroying an
// object frees its place for the next generation, so an old handle is always detected, until a
// place was used 2^36 times. A call shares its objects: an object that another thread destroys
// meanwhile ends with that call. Threads: any. A forked child has handles of its own.
#pragma once

#include <spillway/aio/owner_process.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "failure.h"

namespace spillway::c {

enum class Kind : std::uint8_t {
  kEngine = 1,
  kFile,
  kPool,
  kLease,
  kRequest,
  kStore,
  kLock,
  kSchedule,
  kStriped,
  kSaved
};

class Object {
 public:
  explicit Object(Kind kind) : kind_(kind) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  Kind kind() const noexcept { return kind_; }
  const aio::OwnerProcess owner;  // in a forked child the object is nobody's
  // Number of objects that depend on this one.
  std::atomic<std::uint32_t> users{0};

 private:
  const Kind kind_;
};

// Use: while it exists, the owner of the object cannot destroy it. May be empty.
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

// Adds an object; returns its handle.
void* add_object(std::shared_ptr<Object> object);
// Returns the object of a handle, or SPILLWAY_BAD_HANDLE; also if another process made it, whose
// forked child this is.
tl::expected<std::shared_ptr<Object>, spillway_status> find_object(const void* handle, Kind kind,
                                                                   const char* operation);
// Frees the handle and drops the object. SPILLWAY_IN_USE while it has users.
spillway_status remove_object(const void* handle, Kind kind, const char* operation);

// As find_object, for a class that names its kind.
template <typename T>
tl::expected<std::shared_ptr<T>, spillway_status> find(const void* handle, const char* operation) {
  auto object = find_object(handle, T::kKind, operation);
  if (!object) return tl::unexpected(object.error());
  return std::static_pointer_cast<T>(std::move(*object));
}

}  // namespace spillway::c
