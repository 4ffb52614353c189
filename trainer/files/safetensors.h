// Safetensors: the file format in which models are exchanged, read as if a stranger had written it.
//
// A file is the length of a header (64 bits, little-endian), the header (JSON: name -> dtype,
// shape, data_offsets), then the tensors' bytes, without a gap between them
// (https://huggingface.co/docs/safetensors). Nothing that a header says is believed: its length is
// held against the file's, each tensor's range against its shape and dtype, all ranges against each
// other and the file's end; names and keys given twice are refused. Memory follows the header's
// own length (at most 100 MB, as the reference has it), never a number in it.
#pragma once

#include <spillway/aio/error.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::trainer {

struct SafeTensor {
  std::string name;
  std::string dtype;  // as the format has it: "F32", "BF16", "F16", "I64", ...
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  // bytes, from the end of the header
  std::uint64_t end = 0;
  bool operator==(const SafeTensor&) const = default;
};

// Bytes of an element; 0 for a dtype that is not known.
std::uint64_t safetensors_dtype_bytes(std::string_view dtype);

// Of the JSON alone. `data_bytes` follow it in the file; `name` is what errors (kInvalid,
// kUnsupported) call the file. In the order of their bytes.
Result<std::vector<SafeTensor>> parse_safetensors_header(std::string_view json,
                                                         std::uint64_t data_bytes,
                                                         const std::string& name);
// The head of a file: length and JSON, padded so that the tensors' bytes begin at a multiple of 8.
// Says that the tensors are PyTorch's, without which some readers refuse them. REQUIRES: tensors
// that follow each other.
std::string safetensors_header(std::span<const SafeTensor> tensors);

// Values of F32, BF16 or F16 as fp32, exactly. `bytes`: count elements. REQUIRES: one of the three.
void decode_values(std::string_view dtype, const std::byte* bytes, std::uint64_t count, float* to);
bool has_decodable_values(const SafeTensor& tensor);

// A file that is open for reading. All calls block. One thread at a time; move-only.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;
  ~SafetensorsFile();

  const std::filesystem::path& path() const noexcept { return path_; }
  const std::vector<SafeTensor>& tensors() const noexcept { return tensors_; }
  // Bytes of a tensor from `offset` on. kShortTransfer when the file was cut meanwhile. REQUIRES:
  // one of tensors(), and bytes within it.
  Result<void> read(const SafeTensor& tensor, std::uint64_t offset, std::span<std::byte> to) const;

 private:
  SafetensorsFile(int fd, std::filesystem::path path) : fd_(fd), path_(std::move(path)) {}
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> to) const;
  Result<void> read_header();

  int fd_;
  std::filesystem::path path_;
  std::uint64_t data_offset_ = 0;
  std::vector<SafeTensor> tensors_;
};

}  // namespace spillway::trainer
