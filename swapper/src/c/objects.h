// The objects behind the handles of the C interface.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/mutex.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/saved_tiles.h>
#include <spillway/swapper/tile_store.h>

#include <memory>
#include <optional>
#include <vector>

#include "handles.h"
#include "tile_claims.h"

namespace spillway::c {

// A C program's log function, as a LogCallback. Its address is stable.
struct Log {
  spillway_log write = nullptr;
  void* context = nullptr;
  aio::LogCallback callback();
};

struct EngineObject : Object {
  static constexpr Kind kKind = Kind::kEngine;
  EngineObject() : Object(kKind) {}
  Log log;  // outlives the engine
  std::unique_ptr<aio::Engine> engine;
};

struct FileObject : Object {
  static constexpr Kind kKind = Kind::kFile;
  explicit FileObject(aio::File opened) : Object(kKind), file(std::move(opened)) {}
  Mutex mutex;  // of sync and remove
  aio::File file;
};

struct PoolObject : Object {
  static constexpr Kind kKind = Kind::kPool;
  PoolObject() : Object(kKind) {}
  Log log;
  Use<EngineObject> engine;  // may be empty
  std::unique_ptr<pinned_pool::Pool> pool;
};

struct LeaseObject : Object {
  static constexpr Kind kKind = Kind::kLease;
  LeaseObject() : Object(kKind) {}
  Use<PoolObject> pool;
  std::size_t capacity = 0;
  Mutex mutex;
  pinned_pool::Lease lease SPILLWAY_GUARDED_BY(mutex);  // empty while an I/O has it
};

struct LockObject : Object {
  static constexpr Kind kKind = Kind::kLock;
  LockObject() : Object(kKind) {}
  std::shared_ptr<swapper::DirectoryLock> lock;  // shared with the stores' files
};

struct StoreObject : Object {
  static constexpr Kind kKind = Kind::kStore;
  StoreObject() : Object(kKind) {}
  Log log;
  Use<EngineObject> engine;
  std::vector<Use<LockObject>> locks;
  const std::shared_ptr<TileClaims> claims = std::make_shared<TileClaims>();
  std::unique_ptr<swapper::TileStore> store;
  std::uint64_t largest_tile_bytes = 0;
};

struct SavedObject : Object {
  static constexpr Kind kKind = Kind::kSaved;
  SavedObject() : Object(kKind) {}
  Use<EngineObject> engine;
  std::unique_ptr<swapper::SavedTiles> saved;
};

// Converts an option that was checked with want_choice().
pinned_pool::Policy policy_of(std::int32_t value);
aio::Direct direct_of(std::int32_t value);

// Returns a deadline `timeout_ms` from now; nothing if that is negative or out of range.
std::optional<std::chrono::steady_clock::time_point> deadline_in(std::int64_t timeout_ms);

// Takes the buffer out of a lease for an I/O; SPILLWAY_IN_USE if another I/O has it.
tl::expected<aio::Buffer, spillway_status> take_buffer(LeaseObject& lease, const char* operation);
// Puts the buffer back.
void put_back(LeaseObject& lease, pinned_pool::Lease buffer);

// Records that the store or saved directory has no tile of that number.
spillway_status no_such_tile(const swapper::Tier& tiles, std::uint32_t tile, const char* what);

// Gives the object to the caller, as a new handle.
template <typename Handle>
spillway_status give(std::shared_ptr<Object> object, Handle** handle, const char* operation) {
  *handle = static_cast<Handle*>(add_object(std::move(object)));
  if (*handle != nullptr) return SPILLWAY_OK;
  return failed(SPILLWAY_NO_MEMORY, operation, "16777216 handles are in use");
}

}  // namespace spillway::c
