// The reader of safetensors files: an error with words in it, or tensors that lie side by side in
// the file, whose every byte can be read, and which are written as they were read.
#include <spillway/aio/check.h>
#include "trainer/files/safetensors.h"

#include <fstream>

#include "support/scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::trainer;
  static const spillway::Scratch scratch;
  const std::string path = scratch / "model.safetensors";
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto file = SafetensorsFile::open(path);
  if (!file) {
    SPILLWAY_CHECK(!file.error().detail.empty(), "an error without a reason");
    return 0;
  }
  std::uint64_t at = 0;
  for (const SafeTensor& tensor : file->tensors()) {
    std::uint64_t bytes = safetensors_dtype_bytes(tensor.dtype);
    for (const std::uint64_t length : tensor.shape) bytes *= length;
    SPILLWAY_CHECK(tensor.begin == at && tensor.end - at == bytes, "not side by side");
    SPILLWAY_CHECK(tensor.end <= size, "out of the file");
    at = tensor.end;
    std::vector<std::byte> read(bytes);
    SPILLWAY_CHECK(file->read(tensor, 0, read).has_value(), "bytes that are not there");
    if (!has_decodable_values(tensor)) continue;
    std::vector<float> values(bytes / safetensors_dtype_bytes(tensor.dtype));
    decode_values(tensor.dtype, read.data(), values.size(), values.data());
  }
  const std::string head = safetensors_header(file->tensors());
  const auto again = parse_safetensors_header(head.substr(8), at, path);
  SPILLWAY_CHECK(again && *again == file->tensors(), "written as something else");
  return 0;
}
