#include "spillway/pinned_pool/slab.h"

#include <sys/mman.h>

#include <spillway/aio/check.h>
#include <spillway/aio/owner_process.h>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "mapped_memory.h"
#include "proc_files.h"
#include "spillway/pinned_pool/cuda_runtime.h"
#include "spillway/pinned_pool/limits.h"
#include "spillway/pinned_pool/numa.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14; the headers may be older than the kernel
#endif

namespace spillway::pinned_pool {

namespace {

// The memory and whether each policy was met.
struct Mapping {
  std::byte* data = nullptr;
  std::size_t size_bytes = 0;
  std::size_t huge_page_bytes = 0;
  bool locked = false;
  std::vector<std::string> report;
  MappedMemory counted;  // plain pages only: huge ones are touched at once
  aio::OwnerProcess owner;

  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { unmap(); }

  void unmap() {
    counted.forget();
    // In a forked child that the memory was kept from, others may be mapped there by now.
    if (data != nullptr && owner.is_here()) munmap(data, size_bytes);  // gives back the lock too
    data = nullptr;
    size_bytes = 0;
  }
};

constexpr std::size_t kPage = 4096;
constexpr std::size_t kTransparentHugePage = std::size_t{2} << 20;
// Huge pages that nobody demanded may cost this share of the size by rounding up, and no more.
constexpr std::size_t kLargestWaste = 16;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

tl::unexpected<Error> map_error(int errno_value, std::size_t size_bytes) {
  auto error = errno_error("map memory", "", errno_value, format_bytes(size_bytes));
  error.value().kind = ErrorKind::kNoMemory;
  error.value().wanted = size_bytes;
  return error;
}

// A node that does not exist is an error; a kernel that will not bind is a line in the report, once
// for both attempts to map.
Result<void> bind(Mapping& slab, int numa_node) {
  if (numa_node < 0) return {};
  auto bound = bind_to_node(slab.data, slab.size_bytes, numa_node);
  if (!bound && bound.error().kind == ErrorKind::kUnsupported) {
    slab.report.push_back("NUMA: " + bound.error().message());
    return {};
  }
  return bound;
}

// False, with a line in the report, if the node lacks the room: it would be a strict bond, and the
// kernel then kills the process even if other nodes are empty.
bool node_has_room(Mapping& slab, int numa_node) {
  if (numa_node < 0) return false;
  const auto available = node_available_bytes(numa_node);
  const std::uint64_t promised = bytes_not_touched(numa_node);
  if (!available || slab.size_bytes + promised <= *available) return true;
  slab.report.push_back("NUMA: " + format_bytes(slab.size_bytes) + " are not bound to node " +
                        std::to_string(numa_node) + ", which has " + format_bytes(*available) +
                        " available" +
                        (promised > 0 ? ", " + format_bytes(promised) + " of it promised" : ""));
  return false;
}

// Maps hugetlb pages and touches each, so that what a cgroup or a node lacks is an error here and
// no SIGBUS later. kNoMemory, with the counts, if there are too few.
Result<void> map_huge_pages(Mapping& slab, const SlabOptions& options) {
  const MemoryLimits limits = read_limits_of_kernel();
  const std::size_t page = limits.huge_page_bytes;
  if (page == 0) {
    return make_error(ErrorKind::kUnsupported, "map huge pages", "", "the kernel has none");
  }
  const std::size_t size = round_up(options.size_bytes, page);
  const std::string need = format_bytes(options.size_bytes) + " need " +
                           std::to_string(size / page) + " huge pages of " + format_bytes(page);
  if (options.huge_pages == Policy::kAuto &&
      size - options.size_bytes > options.size_bytes / kLargestWaste) {
    return make_error(ErrorKind::kNoMemory, "map huge pages", "",
                      need + ", which wastes " + format_bytes(size - options.size_bytes));
  }
  const auto none_left = [&](const char* where) {
    return make_error(ErrorKind::kNoMemory, "map huge pages", "",
                      need + ", " + where + std::to_string(limits.free_huge_page_bytes / page) +
                          " free (reserve more with 'sysctl vm.nr_hugepages')");
  };
  if (limits.free_huge_page_bytes < size) return none_left("");
  void* data =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (data == MAP_FAILED) return none_left("");
  slab.data = static_cast<std::byte*>(data);
  slab.size_bytes = size;
  if (auto bound = bind(slab, options.numa_node); !bound) {
    slab.unmap();
    return bound;
  }
  if (madvise(data, size, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
    slab.unmap();
    return none_left("this cgroup or NUMA node cannot have them all, though the machine has ");
  }
  slab.huge_page_bytes = size;
  slab.locked = true;  // hugetlb pages are never swapped
  return {};
}

// Maps plain pages at a multiple of 2 MiB where the size allows, so that the kernel can use
// transparent huge pages from the first byte on (it aligns by itself only since 6.7).
Result<void> map_plain_pages(Mapping& slab, const SlabOptions& options) {
  const std::size_t size = round_up(options.size_bytes, kPage);
  const bool transparent = options.huge_pages != Policy::kOff && size >= kTransparentHugePage;
  const std::size_t spare = transparent ? kTransparentHugePage : 0;
  void* mapped =
      mmap(nullptr, size + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return map_error(errno, size);
  std::byte* begin = static_cast<std::byte*>(mapped);
  if (transparent) {
    const std::size_t address = reinterpret_cast<std::uintptr_t>(mapped);
    const std::size_t head = round_up(address, kTransparentHugePage) - address;
    if (head > 0) munmap(begin, head);
    if (spare > head) munmap(begin + head + size, spare - head);
    begin += head;
    madvise(begin, size, MADV_HUGEPAGE);  // refused where the kernel has none: then plain pages
  }
  slab.data = begin;
  slab.size_bytes = size;
  const int numa_node = node_has_room(slab, options.numa_node) ? options.numa_node : -1;
  if (auto bound = bind(slab, numa_node); !bound) return bound;
  slab.counted.count(slab.data, size, numa_node);
  return {};
}

Result<void> lock_pages(Mapping& slab) {
  if (mlock(slab.data, slab.size_bytes) == 0) {
    slab.locked = true;
    return {};
  }
  const int cause = errno;
  munlock(slab.data, slab.size_bytes);  // a part may be locked
  const MemoryLimits limits = read_limits_of_kernel();
  auto error = errno_error("lock memory", "", cause,
                           format_bytes(slab.size_bytes) + " wanted, RLIMIT_MEMLOCK is " +
                               format_bytes(limits.memlock_bytes) + " with " +
                               format_bytes(limits.locked_bytes) +
                               " locked: raise it with 'ulimit -l' or do without pinned memory");
  error.value().kind = ErrorKind::kNoMemory;
  return error;
}

// Carries out one policy: kRequired hands the failure on, kAuto notes it.
template <typename Attempt>
Result<void> grant(Policy policy, const char* what, std::vector<std::string>& report,
                   Attempt&& attempt) {
  if (policy == Policy::kOff) return {};
  auto done = attempt();
  if (done || policy == Policy::kRequired) return done;
  report.push_back(std::string(what) + ": " + done.error().message());
  return {};
}

}  // namespace

struct Slab::State {
  Mapping mapping;
  bool cuda_registered = false;
  bool ring_registered = false;
  std::vector<aio::Engine*> engines;  // those that know the memory

  // A fork copies pages that a device may write into, at once and all of them: it could not tell
  // whether the device or the child writes first. Nothing in a child may use them, so it gets none.
  // Locked pages that no device knows are shared with the child as usual.
  void keep_from_children() const noexcept {
    madvise(mapping.data, mapping.size_bytes, MADV_DONTFORK);
  }

  ~State() {
    if (!mapping.owner.is_here()) return;
    for (aio::Engine* engine : engines) {
      engine->unregister_memory({mapping.data, mapping.size_bytes});
    }
    if (cuda_registered) cuda_unregister(mapping.data);
  }
};

Slab::Slab(std::unique_ptr<State> state) : state_(std::move(state)) {}
Slab::Slab(Slab&&) noexcept = default;
Slab& Slab::operator=(Slab&&) noexcept = default;
Slab::~Slab() = default;

Result<Slab> Slab::create(const SlabOptions& options) {
  SPILLWAY_CHECK(options.size_bytes > 0, "a slab of no bytes");
  // Far above any address space, and rounding up below cannot overflow.
  if (options.size_bytes > ~std::size_t{0} / 4) return map_error(ENOMEM, options.size_bytes);
  auto state = std::make_unique<State>();
  Mapping& slab = state->mapping;
  auto done = grant(options.huge_pages, "huge pages", slab.report,
                    [&] { return map_huge_pages(slab, options); });
  if (done && slab.data == nullptr) done = map_plain_pages(slab, options);
  if (done && !slab.locked) {
    done = grant(options.lock, "lock", slab.report, [&] { return lock_pages(slab); });
  }
  if (done) {
    done = grant(options.cuda, "CUDA", slab.report, [&]() -> Result<void> {
      auto registered = cuda_register(slab.data, slab.size_bytes);
      state->cuda_registered = registered.has_value();
      if (registered) state->keep_from_children();
      return registered;
    });
  }
  if (!done) return tl::unexpected(done.error());
  return Slab(std::move(state));
}

std::byte* Slab::data() const noexcept { return state_->mapping.data; }
std::size_t Slab::size_bytes() const noexcept { return state_->mapping.size_bytes; }
bool Slab::locked() const noexcept { return state_->mapping.locked; }
bool Slab::cuda_registered() const noexcept { return state_->cuda_registered; }
bool Slab::pinned() const noexcept {
  return locked() || state_->cuda_registered || state_->ring_registered;
}
std::size_t Slab::huge_page_bytes() const noexcept { return state_->mapping.huge_page_bytes; }
const std::vector<std::string>& Slab::report() const noexcept { return state_->mapping.report; }

Result<void> Slab::register_with(aio::Engine& engine, Policy policy) {
  const aio::OwnerProcess& owner = state_->mapping.owner;
  if (!owner.is_here()) return tl::unexpected(owner.error("register memory"));
  return grant(policy, "registered buffers", state_->mapping.report, [&] {
    auto registered = engine.register_memory(memory());
    if (!registered) return registered;
    state_->engines.push_back(&engine);
    // Plain reads and writes know no registration: there, it pins nothing.
    if (engine.backend_name() == std::string_view("threads")) return registered;
    state_->ring_registered = true;
    state_->keep_from_children();
    return registered;
  });
}

}  // namespace spillway::pinned_pool
