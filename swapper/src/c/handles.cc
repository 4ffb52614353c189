#include "handles.h"

#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>

#include <optional>
#include <string>
#include <vector>

namespace spillway::c {
namespace {

static_assert(sizeof(void*) == sizeof(std::uint64_t), "handles are numbers of 64 bits");

constexpr unsigned kPlaceBits = 24;
constexpr unsigned kKindBits = 4;
constexpr std::uint64_t kLastGeneration = (std::uint64_t{1} << (64 - kPlaceBits - kKindBits)) - 1;

const char* name_of(Kind kind) {
  static constexpr const char* kNames[] = {"",         "engine",       "file",           "pool",
                                           "lease",    "request",      "tile store",     "lock",
                                           "schedule", "striped file", "saved directory"};
  const auto number = static_cast<std::size_t>(kind);
  return number < std::size(kNames) ? kNames[number] : "";
}

struct Place {
  std::uint64_t generation = 1;
  std::shared_ptr<Object> object;
};

struct Table {
  Mutex mutex;
  std::vector<Place> places SPILLWAY_GUARDED_BY(mutex);
  std::vector<std::uint32_t> free SPILLWAY_GUARDED_BY(mutex);
};

// Never destroyed: a host may use handles until its very end.
Table& the_table() {
  static Table* const table = new Table;
  return *table;
}

// The functions that forks call, of which Clang cannot know that they come in pairs.
void lock_table() SPILLWAY_NO_THREAD_SAFETY_ANALYSIS { the_table().mutex.lock(); }
void unlock_table() SPILLWAY_NO_THREAD_SAFETY_ANALYSIS { the_table().mutex.unlock(); }

// A forked child finds it unlocked.
Table& table() {
  static const bool held = (aio::hold_across_forks(&lock_table, &unlock_table), true);
  static_cast<void>(held);
  return the_table();
}

std::uint64_t number_of(std::uint64_t generation, Kind kind, std::uint32_t place) {
  return generation << (kPlaceBits + kKindBits) | std::uint64_t(kind) << kPlaceBits | place;
}

std::optional<std::uint32_t> place_of(const Table& table, const void* handle)
    SPILLWAY_REQUIRES(table.mutex) {
  const auto number = reinterpret_cast<std::uint64_t>(handle);
  const auto place = static_cast<std::uint32_t>(number & ((1u << kPlaceBits) - 1));
  if (place >= table.places.size() || !table.places[place].object) return std::nullopt;
  const Place& at = table.places[place];
  if (number != number_of(at.generation, at.object->kind(), place)) return std::nullopt;
  return place;
}

spillway_status bad_handle(const void* handle, Kind kind, const char* operation) {
  const std::string wanted = name_of(kind);
  if (handle == nullptr) {
    return failed(SPILLWAY_BAD_HANDLE, operation, "the handle of the " + wanted + " is NULL");
  }
  return failed(SPILLWAY_BAD_HANDLE, operation,
                "that is no " + wanted + ": of another kind, gone already, or never made");
}

spillway_status made_elsewhere(const Object& object, const char* operation) {
  return failed(SPILLWAY_BAD_HANDLE, operation,
                "the " + std::string(name_of(object.kind())) + " was " +
                    object.owner.error(operation).detail);
}

}  // namespace

void* add_object(std::shared_ptr<Object> object) {
  Table& t = table();
  const MutexLock lock(t.mutex);
  if (t.free.empty()) {
    if (t.places.size() >> kPlaceBits != 0) return nullptr;
    t.places.emplace_back();
    t.free.reserve(t.places.capacity());  // so that giving a place back never allocates
    t.free.push_back(static_cast<std::uint32_t>(t.places.size() - 1));
  }
  const std::uint32_t place = t.free.back();
  t.free.pop_back();
  t.places[place].object = std::move(object);
  const Place& at = t.places[place];
  return reinterpret_cast<void*>(number_of(at.generation, at.object->kind(), place));
}

tl::expected<std::shared_ptr<Object>, spillway_status> find_object(const void* handle, Kind kind,
                                                                   const char* operation) {
  std::shared_ptr<Object> object;
  {
    Table& t = table();
    const MutexLock lock(t.mutex);
    const auto place = place_of(t, handle);
    if (place && t.places[*place].object->kind() == kind) object = t.places[*place].object;
  }
  if (!object) return tl::unexpected(bad_handle(handle, kind, operation));
  if (!object->owner.is_here()) return tl::unexpected(made_elsewhere(*object, operation));
  return object;
}

spillway_status remove_object(const void* handle, Kind kind, const char* operation) {
  std::shared_ptr<Object> object;  // goes outside the lock
  std::uint32_t users = 0;
  {
    Table& t = table();
    const MutexLock lock(t.mutex);
    const auto place = place_of(t, handle);
    if (place && t.places[*place].object->kind() == kind) {
      object = t.places[*place].object;
      users = object->users.load();
      if (users == 0 && object->owner.is_here()) {
        Place& at = t.places[*place];
        at.object.reset();
        at.generation = at.generation == kLastGeneration ? 1 : at.generation + 1;
        t.free.push_back(*place);
      }
    }
  }
  if (!object) return bad_handle(handle, kind, operation);
  if (!object->owner.is_here()) return made_elsewhere(*object, operation);
  if (users == 0) return SPILLWAY_OK;
  return failed(SPILLWAY_IN_USE, operation,
                "the " + std::string(name_of(kind)) + " is needed by " + std::to_string(users) +
                    " other objects or calls, which must end first");
}

}  // namespace spillway::c
