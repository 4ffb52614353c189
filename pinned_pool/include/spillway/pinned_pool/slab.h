// Slab: one mapping of memory for transfers: page-locked, on one NUMA node, on huge pages if there
// are any, registered with io_uring engines and with CUDA.
//
// It takes the requested bytes, rounded up to the page size only. `report()` names each policy that
// was not met, with the reason. Move-only. The destructor unregisters the memory from CUDA and from
// every engine, and unmaps it. A forked child does not have memory that is registered, and touching
// it there is a SIGSEGV: the fork would have to copy it all. The destructor does nothing there.
// Ownership: engines must outlive the
// Slab. Threads: one at a time; the memory itself may be used by any.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway::pinned_pool {

// Policy: whether to use an optional facility.
enum class Policy {
  kOff,       // do not try
  kAuto,      // try; report() has the reason of a failure
  kRequired,  // fail without it
};

struct SlabOptions {
  std::size_t size_bytes = 0;
  Policy huge_pages = Policy::kAuto;  // hugetlb pages; kAuto falls back to transparent huge pages
  Policy lock = Policy::kAuto;        // mlock
  Policy cuda = Policy::kAuto;        // cudaHostRegister; kAuto: only when a CUDA device is there
  int numa_node = -1;  // -1 = the kernel's choice, as on a node that lacks the memory (reported)
};

class SPILLWAY_API Slab {
 public:
  // Maps the memory. kNoMemory if there is not enough; the reason if a kRequired policy fails.
  // REQUIRES: size_bytes > 0.
  static Result<Slab> create(const SlabOptions& options);
  Slab(Slab&&) noexcept;
  Slab& operator=(Slab&&) noexcept;
  ~Slab();

  std::byte* data() const noexcept;
  std::size_t size_bytes() const noexcept;
  std::span<std::byte> memory() const noexcept { return {data(), size_bytes()}; }
  bool locked() const noexcept;
  bool cuda_registered() const noexcept;
  // True if the kernel keeps the pages where they are: locked, or registered with CUDA or a ring.
  bool pinned() const noexcept;
  std::size_t huge_page_bytes() const noexcept;             // bytes on hugetlb pages
  const std::vector<std::string>& report() const noexcept;  // one line per policy not met

  // Registers the memory with `engine` (kOff does nothing). The engine must outlive the Slab.
  Result<void> register_with(aio::Engine& engine, Policy policy = Policy::kAuto);

 private:
  struct SPILLWAY_LOCAL State;
  explicit Slab(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::pinned_pool
