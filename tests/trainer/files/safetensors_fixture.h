// Writes safetensors files: with tensors of known values, or with any header.
#pragma once

#include "trainer/files/safetensors.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace spillway::trainer::testing {

struct NamedValues {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::string dtype;
  std::string bytes;
};

inline std::string bytes_of_values(const std::vector<float>& values, const std::string& dtype) {
  std::string bytes;
  for (const float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t word = dtype == "BF16" ? bits >> 16 : bits;
    bytes.append(reinterpret_cast<const char*>(&word), dtype == "BF16" ? 2 : 4);
  }
  return bytes;
}

// Returns length, header and data, as in a file.
inline std::string raw_file(const std::string& header, const std::string& data) {
  std::string head(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(head.data(), &length, sizeof(length));
  return head + header + data;
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline void write_safetensors(const std::filesystem::path& path,
                              const std::vector<NamedValues>& values) {
  std::vector<SafeTensor> tensors;
  std::string data;
  for (const NamedValues& value : values) {
    const std::uint64_t begin = data.size();
    data += value.bytes;
    tensors.push_back({value.name, value.dtype, value.shape, begin, data.size()});
  }
  write_bytes(path, safetensors_header(tensors) + data);
}

}  // namespace spillway::trainer::testing
