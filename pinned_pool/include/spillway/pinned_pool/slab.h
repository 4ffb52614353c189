// Slab: one mapping of memory that devices may move: page-locked, on one NUMA node, on huge pages
// when they can be had, registered with io_uring engines and with CUDA.
//
// N bytes asked for are N bytes paid for (rounded up to the page size only). Nothing is silent:
// `report()` says for each policy whether it was met and why not. Move-only; the destructor
// unregisters from CUDA and from every engine (which must still exist) and unmaps.
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

enum class Policy {
  kOff,       // do not try
  kAuto,      // try; report() says why when it could not be had
  kRequired,  // fail when it cannot be had
};

struct SlabOptions {
  std::size_t size_bytes = 0;
  Policy huge_pages = Policy::kAuto;  // hugetlb pages; kAuto falls back to transparent huge pages
  Policy lock = Policy::kAuto;        // mlock
  Policy cuda = Policy::kAuto;        // cudaHostRegister; kAuto: only when a CUDA device is there
  int numa_node = -1;                 // -1 = wherever the kernel puts it
};

class SPILLWAY_API Slab {
 public:
  // kNoMemory when the memory cannot be had; for kRequired that cannot be had, its reason.
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
  std::size_t huge_page_bytes() const noexcept;             // how much of it lies on hugetlb pages
  const std::vector<std::string>& report() const noexcept;  // one line per policy not met

  // Registers the memory with the engine (kOff does nothing). The engine must outlive the Slab.
  Result<void> register_with(aio::Engine& engine, Policy policy = Policy::kAuto);

 private:
  struct SPILLWAY_LOCAL State;
  explicit Slab(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::pinned_pool
