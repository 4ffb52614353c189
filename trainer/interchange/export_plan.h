// What an export writes: which tensors, in which files, from which parameters. Internal to
// exporting.
#pragma once

#include <spillway/trainer/weight_export.h>
#include "trainer/files/safetensors.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace spillway::trainer {

// A file of tensors, and which of the layout's they are: [first, first + count).
struct PlannedFile {
  std::string name;
  std::string header;
  std::size_t first = 0;
  std::vector<SafeTensor> tensors;

  std::uint64_t size_bytes() const { return header.size() + tensors.back().end; }
};

struct ExportPlan {
  ModelConfigPtr model;  // null: parameters under their own names
  TensorMap map;
  std::vector<MappedTensor> tensors;             // their slices point into the map
  std::map<std::string, std::uint32_t> numbers;  // of the checkpoint's parameters
  std::vector<PlannedFile> files;
  std::uint64_t value_bytes = 4;
  std::uint64_t group_values = 0;

  std::uint64_t tensor_bytes() const {
    std::uint64_t bytes = 0;
    for (const PlannedFile& file : files) bytes += file.tensors.back().end;
    return bytes;
  }
};

// Fills in `plan`. kInvalid as check_layout, where a family's layout is asked for.
Result<void> plan_export(const CheckpointManifest& manifest, const ExportOptions& options,
                         const std::string& name, ExportPlan* plan);

}  // namespace spillway::trainer
