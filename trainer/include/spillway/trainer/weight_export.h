// Exporting a checkpoint's weights as safetensors, in Hugging Face's GPT-2 layout or as they are.
//
// Streamed: each block of the checkpoint is read once, compared with its checksum, turned round
// where the layout wants it and written to its place, in some 100 MB of memory whatever the
// model's size. The directory gets its name when all of it is durable: until then it is
// DIRECTORY.tmp, and what a killed export left there is removed by the next. Blocks.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/checkpoint.h>

#include <cstdint>
#include <filesystem>

namespace spillway::trainer {

enum class ExportLayout : std::uint8_t {
  kGpt2,   // of GPT2LMHeadModel, with its config.json
  kNames,  // each parameter under its own name and shape; no config.json
};

struct ExportOptions {
  // fp32: the master weights exactly. bf16: the weights that training in bf16 computes with.
  Dtype dtype = Dtype::kFp32;
  ExportLayout layout = ExportLayout::kGpt2;
  std::uint64_t max_shard_bytes = 5'000'000'000;  // of a file's tensors, unless one is larger
  // Most values of a projection that are turned round at a time, and at least a row: 32 MiB.
  std::uint64_t group_values = std::uint64_t{8} << 20;
};

struct ExportReport {
  std::uint64_t tensors = 0;
  std::uint64_t files = 0;  // of tensors
  std::uint64_t bytes = 0;  // of them
};

// `directory` must not exist (kInvalid); what it lies in must. kNoSpace before a byte is written,
// kCorrupt names the checkpoint's bad block; after any failure nothing is left there.
Result<ExportReport> export_weights(Checkpoint& checkpoint, const std::filesystem::path& directory,
                                    const ExportOptions& options);

}  // namespace spillway::trainer
