#include "trainer/plan/generation_room.h"
#include <spillway/pinned_pool/limits.h>
#include <sys/stat.h>

#include <map>
#include <system_error>

namespace spillway::trainer {

std::string lacking_room(std::span<const StoredBytes> stores, std::uint32_t local_ranks) {
  std::map<dev_t, StoredBytes> filesystems;
  for (const StoredBytes& store : stores) {
    struct stat status {};
    if (::stat(store.path.c_str(), &status) != 0) return store.path.string() + " cannot be read";
    StoredBytes& all = filesystems[status.st_dev];
    all.path = store.path;
    all.bytes += store.bytes * local_ranks;
  }
  for (const auto& [device, store] : filesystems) {
    std::error_code unknown;
    const std::filesystem::space_info space = std::filesystem::space(store.path, unknown);
    const std::uint64_t free_bytes = unknown ? 0 : space.available;
    if (free_bytes / kRoomForGenerations >= store.bytes) continue;
    return store.path.string() + " has " + pinned_pool::format_bytes(free_bytes) +
           " free, less than " + std::to_string(kRoomForGenerations) + " times the states' " +
           pinned_pool::format_bytes(store.bytes);
  }
  return {};
}

}  // namespace spillway::trainer
