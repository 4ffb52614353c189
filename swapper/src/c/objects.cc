#include "objects.h"

#include <utility>

namespace spillway::c {

aio::LogCallback Log::callback() {
  if (write == nullptr) return {};
  return {.write =
              [](void* context, aio::LogLevel level, const char* line) noexcept {
                const Log& log = *static_cast<const Log*>(context);
                try {
                  log.write(log.context, level == aio::LogLevel::kWarning, line);
                } catch (...) {  // a C++ program's: nothing may leave a callback
                }
              },
          .context = this};
}

pinned_pool::Policy policy_of(std::int32_t value) {
  if (value == SPILLWAY_OFF) return pinned_pool::Policy::kOff;
  return value == SPILLWAY_REQUIRED ? pinned_pool::Policy::kRequired : pinned_pool::Policy::kAuto;
}

aio::Direct direct_of(std::int32_t value) {
  if (value == SPILLWAY_OFF) return aio::Direct::kOff;
  return value == SPILLWAY_REQUIRED ? aio::Direct::kRequired : aio::Direct::kAuto;
}

std::optional<std::chrono::steady_clock::time_point> deadline_in(std::int64_t timeout_ms) {
  constexpr std::int64_t kYear = std::int64_t{365} * 24 * 3600 * 1000;
  if (timeout_ms < 0 || timeout_ms > kYear) return std::nullopt;
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
}

tl::expected<aio::Buffer, spillway_status> take_buffer(LeaseObject& lease, const char* operation) {
  {
    const MutexLock lock(lease.mutex);
    if (lease.lease) return std::move(lease.lease).release();
  }
  return tl::unexpected(
      failed(SPILLWAY_IN_USE, operation, "a request uses the lease, or took it along"));
}

void put_back(LeaseObject& lease, pinned_pool::Lease buffer) {
  const MutexLock lock(lease.mutex);
  lease.lease = std::move(buffer);
}

spillway_status no_such_tile(const swapper::Tier& tiles, std::uint32_t tile, const char* what) {
  return failed(SPILLWAY_MISUSE, what,
                "tile " + std::to_string(tile) + " of " + std::to_string(tiles.tile_count()) +
                    " does not exist");
}

}  // namespace spillway::c
