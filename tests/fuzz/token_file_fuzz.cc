// The reader of token files. Input: a byte that chooses format and name, then the file.
// What is read must be what a second, plain reading of the format finds.
#include <spillway/aio/check.h>
#include <spillway/trainer/data.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "support/scratch.h"

namespace spillway::trainer {
namespace {

struct Layout {
  std::size_t header_bytes;
  std::size_t token_bytes;
};

Layout layout_of(TokenFormat format, std::span<const std::uint8_t> file) {
  if (format == TokenFormat::kText) return {0, 1};
  if (format == TokenFormat::kNanoGpt) return {0, 2};
  return {1024, file[0] == 0x88 ? 2u : 4u};  // the magics are 0x0134d888 and 0x0134d9a1
}

std::vector<std::int64_t> plain_tokens(std::span<const std::uint8_t> file, const Layout& layout) {
  std::vector<std::int64_t> tokens;
  for (std::size_t at = layout.header_bytes; at < file.size(); at += layout.token_bytes) {
    std::uint32_t token = 0;
    std::memcpy(&token, file.data() + at, layout.token_bytes);
    tokens.push_back(token);
  }
  return tokens;
}

void expect_same(const TokenFile& file, std::span<const std::uint8_t> bytes) {
  const auto tokens = plain_tokens(bytes, layout_of(file.format(), bytes));
  SPILLWAY_CHECK(file.token_count() == tokens.size(), "another number of tokens");
  std::vector<std::int64_t> read(tokens.size());
  file.copy(0, read);
  SPILLWAY_CHECK(read == tokens, "other tokens");
  std::int64_t largest = 0;
  for (std::int64_t token : tokens) largest = std::max(largest, token);
  const auto vocab_size = static_cast<std::uint64_t>(largest);
  SPILLWAY_CHECK(file.check_vocabulary(vocab_size + 1).has_value(), "refuses its largest token");
  SPILLWAY_CHECK(tokens.empty() || !file.check_vocabulary(vocab_size), "takes a token too large");
  constexpr std::uint32_t kContext = 5;
  auto sampler = BatchSampler::create(file, kContext, bytes.size());
  SPILLWAY_CHECK(sampler.has_value() == (tokens.size() > kContext), "samples of a short file");
  if (!sampler) return;
  std::vector<std::int64_t> inputs(kContext), targets(kContext);
  for (std::uint64_t sample = 0; sample < 4; ++sample) {
    sampler->training_sample(sample * 7, sample, inputs, targets);
    SPILLWAY_CHECK(std::equal(inputs.begin() + 1, inputs.end(), targets.begin()), "not shifted");
    sampler->evaluation_sample(sample, 4, inputs, targets);
    SPILLWAY_CHECK(std::equal(inputs.begin() + 1, inputs.end(), targets.begin()), "not shifted");
  }
}

}  // namespace
}  // namespace spillway::trainer

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::trainer;
  static const spillway::Scratch scratch;
  if (size == 0) return -1;
  const auto format = static_cast<TokenFormat>(data[0] % 4);
  const std::string path = scratch / (data[0] & 4 ? "x.bin" : "x.txt");
  std::span<const std::uint8_t> bytes(data + 1, size - 1);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  auto file = TokenFile::open(path, format);
  if (file) {
    expect_same(*file, bytes);
  } else {
    SPILLWAY_CHECK(file.error().kind == spillway::ErrorKind::kInvalid, "another kind of error");
  }
  return 0;
}
