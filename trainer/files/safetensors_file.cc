#include <fcntl.h>
#include <spillway/aio/check.h>
#include <spillway/aio/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "trainer/files/safetensors.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;

// IEEE binary16 to binary32: every value there is one here.
float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = bits >> 10 & 0x1f;
  const std::uint32_t fraction = bits & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) {
    return std::bit_cast<float>(sign | (exponent + 127 - 15) << 23 | fraction << 13);
  }
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // denormal or zero
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

std::uint16_t half_word(const std::byte* bytes) {
  std::uint16_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

}  // namespace

bool has_decodable_values(const SafeTensor& tensor) {
  return tensor.dtype == "F32" || tensor.dtype == "BF16" || tensor.dtype == "F16";
}

void decode_values(std::string_view dtype, const std::byte* bytes, std::uint64_t count, float* to) {
  if (count == 0) return;  // the pointers may be null
  if (dtype == "F32") {
    std::memcpy(to, bytes, count * sizeof(float));
  } else if (dtype == "BF16") {
    for (std::uint64_t i = 0; i < count; ++i) {
      to[i] = std::bit_cast<float>(std::uint32_t{half_word(bytes + 2 * i)} << 16);
    }
  } else {
    SPILLWAY_CHECK(dtype == "F16", "values are F32, BF16 or F16");
    for (std::uint64_t i = 0; i < count; ++i) to[i] = half_to_float(half_word(bytes + 2 * i));
  }
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      data_offset_(other.data_offset_),
      tensors_(std::move(other.tensors_)) {}

SafetensorsFile::~SafetensorsFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe: no waiting
  if (fd < 0) return errno_error("open", path.string(), errno);
  SafetensorsFile file(fd, path);
  if (auto read = file.read_header(); !read) return tl::unexpected(read.error());
  return file;
}

Result<void> SafetensorsFile::read_header() {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) return errno_error("stat", path_.string(), errno);
  const auto refuse = [&](std::string why) {
    return make_error(ErrorKind::kInvalid, "read safetensors", path_.string(), std::move(why));
  };
  if (!S_ISREG(status.st_mode)) return refuse("it is no regular file");
  const auto size_bytes = static_cast<std::uint64_t>(status.st_size);
  if (size_bytes < kLengthBytes) return refuse("it is too short to be one");
  std::byte head[kLengthBytes];
  if (auto read = read_at(0, head); !read) return read;
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<int>(head[i]);
  if (length > size_bytes - kLengthBytes || length > kMostHeaderBytes) {
    return refuse("its header would have " + std::to_string(length) +
                  " bytes: cut short, or another kind of file");
  }
  std::string text(length, '\0');
  auto read = read_at(kLengthBytes, std::as_writable_bytes(std::span(text)));
  if (!read) return read;
  data_offset_ = kLengthBytes + length;
  auto tensors = parse_safetensors_header(text, size_bytes - data_offset_, path_.string());
  if (!tensors) return tl::unexpected(tensors.error());
  tensors_ = std::move(*tensors);
  return {};
}

Result<void> SafetensorsFile::read(const SafeTensor& tensor, std::uint64_t offset,
                                   std::span<std::byte> to) const {
  const std::uint64_t bytes = tensor.end - tensor.begin;
  SPILLWAY_CHECK(offset <= bytes && to.size() <= bytes - offset, "bytes within the tensor");
  return read_at(data_offset_ + tensor.begin + offset, to);
}

Result<void> SafetensorsFile::read_at(std::uint64_t offset, std::span<std::byte> to) const {
  return aio::read_exactly(fd_, offset, to, path_.string());
}

}  // namespace spillway::trainer
