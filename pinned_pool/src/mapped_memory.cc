#include "mapped_memory.h"

#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <sys/mman.h>
#include <algorithm>
#include <array>
#include <vector>

namespace spillway::pinned_pool {
namespace {

constexpr std::size_t kPage = 4096;

// Of the whole process, as the limits are. It is never destroyed: slabs may end after it would be.
// A forked child, which may make slabs of its own, inherits it free.
struct Counted {
  Mutex mutex;
  std::vector<MappedMemory*> mappings SPILLWAY_GUARDED_BY(mutex);
};

Counted& counted() {
  static Counted& all = *new Counted;
  return all;
}

// The functions that forks call, of which Clang cannot know that they come in pairs.
void lock_counted() SPILLWAY_NO_THREAD_SAFETY_ANALYSIS { counted().mutex.lock(); }
void unlock_counted() SPILLWAY_NO_THREAD_SAFETY_ANALYSIS { counted().mutex.unlock(); }

}  // namespace

void MappedMemory::count(std::byte* data, std::size_t size_bytes, int numa_node) {
  static const bool held = (aio::hold_across_forks(&lock_counted, &unlock_counted), true);
  static_cast<void>(held);
  const MutexLock lock(counted().mutex);
  counted().mappings.push_back(this);
  data_ = data;
  size_bytes_ = size_bytes;
  numa_node_ = numa_node;
  touched_ = false;
}

void MappedMemory::forget() noexcept {
  if (data_ == nullptr) return;
  const MutexLock lock(counted().mutex);
  std::erase(counted().mappings, this);
  data_ = nullptr;
}

// Under the lock, so that nobody unmaps it meanwhile. mincore knows no page that was never touched.
std::uint64_t MappedMemory::untouched() noexcept {
  if (touched_) return 0;
  std::array<unsigned char, 16384> pages;
  std::uint64_t bytes = 0;
  for (std::size_t at = 0; at < size_bytes_; at += pages.size() * kPage) {
    const std::size_t here = std::min(size_bytes_ - at, pages.size() * kPage);
    // Fails in a forked child that the mapping was kept from.
    if (mincore(data_ + at, here, pages.data()) != 0) return 0;
    const auto end = pages.begin() + static_cast<std::ptrdiff_t>((here + kPage - 1) / kPage);
    const auto is_out = [](unsigned char page) { return (page & 1) == 0; };
    bytes += static_cast<std::uint64_t>(std::count_if(pages.begin(), end, is_out)) * kPage;
  }
  touched_ = bytes == 0;
  return bytes;
}

std::uint64_t bytes_not_touched(int numa_node) {
  const MutexLock lock(counted().mutex);
  std::uint64_t bytes = 0;
  for (MappedMemory* mapping : counted().mappings) {
    if (numa_node < 0 || mapping->numa_node_ == numa_node) bytes += mapping->untouched();
  }
  return bytes;
}

}  // namespace spillway::pinned_pool
