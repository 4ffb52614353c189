#include "tools/spillway/estimate/gpu_kinds.h"

namespace spillway::tools {
namespace {

constexpr double kPcie4 = 31.5, kPcie5 = 63.0;  // x16, GB/s each way

}  // namespace

const std::vector<GpuKind>& gpu_kinds() {
  static const std::vector<GpuKind> kinds = {
      {"h100", 989.4, 80, 3350, kPcie5},    {"h100-pcie", 756, 80, 2000, kPcie5},
      {"h200", 989.4, 141, 4800, kPcie5},   {"b200", 2250, 180, 7700, kPcie5},
      {"a100", 312, 80, 2039, kPcie4},      {"a100-40gb", 312, 40, 1555, kPcie4},
      {"l40s", 362, 48, 864, kPcie4},       {"l4", 121, 24, 300, kPcie4},
      {"a10", 125, 24, 600, kPcie4},        {"rtx5090", 209.5, 32, 1792, kPcie5},
      {"rtx4090", 165.2, 24, 1008, kPcie4}, {"rtx3090", 71, 24, 936, kPcie4},
  };
  return kinds;
}

const GpuKind* find_gpu(const std::string& name) {
  for (const GpuKind& kind : gpu_kinds()) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

}  // namespace spillway::tools
