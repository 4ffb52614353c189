// Exporting a checkpoint's weights as safetensors, in Hugging Face's layout of the model's family
// or as they are.
//
// Streamed: each block of the checkpoint is read once, compared with its checksum, transposed where
// the layout wants it and written to its place, in some 100 MB of memory whatever the model's size.
// The directory gets its name when all of it is durable: until then it is DIRECTORY.tmp, and what a
// killed export left there is removed by the next. Blocks.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/checkpoint.h>
#include <spillway/trainer/model.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace spillway::trainer {

// Begins the operation of errors that another layout would not have; the family's title follows.
inline constexpr const char* kLayOutAs = "lay out as ";

struct ExportOptions {
  // fp32: the master weights exactly. bf16: the weights that training in bf16 computes with.
  Dtype dtype = Dtype::kFp32;
  // Whose files to write, with config.json: kInvalid for a checkpoint of another family. Null: each
  // parameter under its own name and shape, without config.json.
  const ModelFamily* layout = &default_family();
  std::uint64_t max_shard_bytes = 5'000'000'000;  // of a file's tensors, unless one is larger
  // Most values of a parameter that are transposed at a time, and at least a row: 32 MiB.
  std::uint64_t group_values = std::uint64_t{8} << 20;
};

struct ExportReport {
  std::uint64_t tensors = 0;
  std::uint64_t files = 0;  // of tensors
  std::uint64_t bytes = 0;  // of them
};

// Whether the checkpoint is of a model of the family, and has its parameters. kInvalid names the
// first parameter that is not there, too many, or of another shape; `name` is what errors call it.
Result<void> check_layout(const CheckpointManifest& manifest, const ModelFamily& family,
                          const std::string& name);

// `directory` must not exist (kInvalid); what it lies in must. kNoSpace before a byte is written,
// kCorrupt names the checkpoint's bad block; after any failure nothing is left there.
Result<ExportReport> export_weights(Checkpoint& checkpoint, const std::filesystem::path& directory,
                                    const ExportOptions& options);

}  // namespace spillway::trainer
