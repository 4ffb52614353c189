// GPUs known by name: what their makers state.
#pragma once

#include <string>
#include <vector>

namespace spillway::tools {

struct GpuKind {
  const char* name;             // as --gpu wants it
  double bf16_tflops;           // dense, fp32 sums
  double memory_gib;            // of the device
  double memory_gb_per_second;  // of the device
  double pcie_gb_per_second;    // each way, of the standard: a bound, see kPcieReached
};

// A copy between pinned memory and a GPU reaches about this share of what the standard says
// (headers, flow control): 25 of 31.5 GB/s on PCIe 4.0 x16, 50 of 63 on 5.0.
inline constexpr double kPcieReached = 0.8;

// From NVIDIA's data sheets and architecture white papers (H100, H200, A100, L40S, L4, A10, Ada and
// Blackwell GeForce, HGX B200).
const std::vector<GpuKind>& gpu_kinds();
// nullptr when there is none of that name.
const GpuKind* find_gpu(const std::string& name);

}  // namespace spillway::tools
