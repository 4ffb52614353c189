// Reads and writes safetensors, the file format in which models are exchanged.
//
// A file holds the length of its header (64 bits, little-endian), the header (JSON: name -> dtype,
// shape, data_offsets) and the tensors' bytes without gaps
// (https://huggingface.co/docs/safetensors). The reader trusts no file: it checks the header's
// length against the file's size, each range against shape and dtype, and all ranges against each
// other and the end of the file. It refuses duplicate names and keys. It allocates by the length of
// the header (at most 100 MB, as the reference does), never by a number in it.
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
  std::string dtype;  // as the format spells it: "F32", "BF16", "F16", "I64", ...
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  // bytes, from the end of the header
  std::uint64_t end = 0;
  bool operator==(const SafeTensor&) const = default;
};

// Returns the bytes of an element; 0 for an unknown dtype.
std::uint64_t safetensors_dtype_bytes(std::string_view dtype);

// Parses the JSON of a header, in front of `data_bytes` bytes of tensors. Returns the tensors in
// the order of their bytes. Errors (kInvalid, kUnsupported) call the file `name`.
Result<std::vector<SafeTensor>> parse_safetensors_header(std::string_view json,
                                                         std::uint64_t data_bytes,
                                                         const std::string& name);
// Returns the head of a file: length and JSON, padded so that the tensors' bytes begin at a
// multiple of 8. Its metadata names PyTorch as the format, because some readers refuse a file
// without it. REQUIRES: tensors in the order of their bytes, without gaps.
std::string safetensors_header(std::span<const SafeTensor> tensors);

// Converts `count` values of F32, BF16 or F16 to fp32, exactly. REQUIRES: one of these dtypes.
void decode_values(std::string_view dtype, const std::byte* bytes, std::uint64_t count, float* to);
bool has_decodable_values(const SafeTensor& tensor);

// A file open for reading. All calls block. One thread at a time; move-only.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;
  ~SafetensorsFile();

  const std::filesystem::path& path() const noexcept { return path_; }
  const std::vector<SafeTensor>& tensors() const noexcept { return tensors_; }
  // Fills `to` with bytes of `tensor` from `offset` on. kShortTransfer if the file has shrunk
  // since. REQUIRES: one of tensors(), and a range within it.
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
