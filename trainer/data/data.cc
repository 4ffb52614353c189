#include <spillway/trainer/data.h>

#include <fcntl.h>
#include <spillway/aio/check.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "trainer/base/seed.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kLlmcHeaderBytes = 256 * sizeof(std::int32_t);

// What llm.c's writer puts into the first two words, and the size of the tokens that follow.
struct LlmcKind {
  std::int32_t magic;
  std::int32_t version;
  std::uint64_t token_bytes;
};
constexpr std::array<LlmcKind, 2> kLlmcKinds = {{{20240520, 1, 2}, {20240801, 7, 4}}};

// Where the tokens lie in a file.
struct TokenPlace {
  TokenFormat format;
  std::uint64_t offset_bytes;
  std::uint64_t token_bytes;
};

tl::unexpected<Error> invalid(const std::string& path, std::string detail) {
  return make_error(ErrorKind::kInvalid, "read tokens", path, std::move(detail));
}

std::int32_t header_word(const std::byte* file, std::size_t index) {
  std::int32_t word;
  std::memcpy(&word, file + index * sizeof word, sizeof word);
  return word;
}

std::optional<LlmcKind> llmc_kind(const std::byte* file, std::uint64_t size_bytes) {
  if (size_bytes >= sizeof(std::int32_t)) {
    for (const LlmcKind& kind : kLlmcKinds) {
      if (header_word(file, 0) == kind.magic) {
        return kind;
      }
    }
  }
  return std::nullopt;
}

// The header must account for every byte of the file: a download cut short is refused here.
Result<TokenPlace> locate_llmc(const std::string& path, const std::byte* file,
                               std::uint64_t size_bytes) {
  const std::optional<LlmcKind> kind = llmc_kind(file, size_bytes);
  if (!kind) {
    return invalid(path, "no llm.c token file: it does not begin with magic 20240520 or 20240801");
  }
  if (size_bytes < kLlmcHeaderBytes) {
    return invalid(path, "llm.c header of " + std::to_string(kLlmcHeaderBytes) +
                             " bytes is cut short at " + std::to_string(size_bytes));
  }
  if (header_word(file, 1) != kind->version) {
    return invalid(path, "llm.c version " + std::to_string(header_word(file, 1)) + ", expected " +
                             std::to_string(kind->version));
  }
  const auto count = static_cast<std::uint32_t>(header_word(file, 2));
  const std::uint64_t expected = kLlmcHeaderBytes + count * kind->token_bytes;
  if (size_bytes != expected) {
    return invalid(path, "its header promises " + std::to_string(count) + " tokens, " +
                             std::to_string(expected) + " bytes, but the file has " +
                             std::to_string(size_bytes));
  }
  return TokenPlace{TokenFormat::kLlmc, kLlmcHeaderBytes, kind->token_bytes};
}

Result<TokenPlace> locate_tokens(const std::filesystem::path& path, TokenFormat format,
                                 const std::byte* file, std::uint64_t size_bytes) {
  if (format == TokenFormat::kAuto) {
    format = llmc_kind(file, size_bytes)  ? TokenFormat::kLlmc
             : path.extension() == ".bin" ? TokenFormat::kNanoGpt
                                          : TokenFormat::kText;
  }
  if (format == TokenFormat::kLlmc) {
    return locate_llmc(path.string(), file, size_bytes);
  }
  const TokenPlace place{format, 0, format == TokenFormat::kNanoGpt ? 2u : 1u};
  if (size_bytes % place.token_bytes != 0) {
    return invalid(path.string(), "uint16 tokens need an even size, the file has " +
                                      std::to_string(size_bytes) + " bytes");
  }
  return place;
}

}  // namespace

struct TokenFile::State {
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (mapping != nullptr) {
      ::munmap(mapping, size_bytes);
    }
  }

  // Calls use(tokens, count) with the tokens as the integers they are. A mapping begins on a page
  // and the header is 1024 bytes, so they are aligned.
  template <typename Use>
  auto visit(Use use) const {
    const std::byte* first = static_cast<const std::byte*>(mapping) + place.offset_bytes;
    switch (place.token_bytes) {
      case 1:
        return use(reinterpret_cast<const std::uint8_t*>(first));
      case 2:
        return use(reinterpret_cast<const std::uint16_t*>(first));
      default:
        return use(reinterpret_cast<const std::uint32_t*>(first));
    }
  }

  std::string path;
  void* mapping = nullptr;
  std::uint64_t size_bytes = 0;
  TokenPlace place{};
  std::uint64_t token_count = 0;
};

TokenFile::TokenFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
TokenFile::TokenFile(TokenFile&&) noexcept = default;
TokenFile& TokenFile::operator=(TokenFile&&) noexcept = default;
TokenFile::~TokenFile() = default;

Result<TokenFile> TokenFile::open(const std::filesystem::path& path, TokenFormat format) {
  auto state = std::make_unique<State>();
  state->path = path.string();
  // O_NONBLOCK: a named pipe is to be refused below, not waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return errno_error("open", state->path, errno, "token file");
  }
  struct stat status {};
  const int stat_errno = ::fstat(fd, &status) == 0 ? 0 : errno;
  int map_errno = 0;
  if (stat_errno == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
    state->size_bytes = static_cast<std::uint64_t>(status.st_size);
    void* mapping = ::mmap(nullptr, state->size_bytes, PROT_READ, MAP_SHARED, fd, 0);
    map_errno = mapping == MAP_FAILED ? errno : 0;
    state->mapping = mapping == MAP_FAILED ? nullptr : mapping;
  }
  ::close(fd);
  if (stat_errno != 0 || map_errno != 0) {
    return errno_error(stat_errno != 0 ? "stat" : "map", state->path,
                       stat_errno != 0 ? stat_errno : map_errno);
  }
  if (!S_ISREG(status.st_mode)) {
    return invalid(state->path,
                   S_ISDIR(status.st_mode) ? "is a directory, not a file" : "is not a plain file");
  }
  if (status.st_size == 0) {
    return invalid(state->path, "the file is empty");
  }
  const auto place =
      locate_tokens(path, format, static_cast<const std::byte*>(state->mapping), state->size_bytes);
  if (!place) {
    return tl::unexpected(place.error());
  }
  state->place = *place;
  state->token_count = (state->size_bytes - place->offset_bytes) / place->token_bytes;
  return TokenFile(std::move(state));
}

TokenFormat TokenFile::format() const noexcept { return state_->place.format; }
const std::string& TokenFile::path() const noexcept { return state_->path; }
std::uint64_t TokenFile::token_count() const noexcept { return state_->token_count; }

void TokenFile::copy(std::uint64_t first, std::span<std::int64_t> out) const {
  SPILLWAY_CHECK(first <= token_count() && out.size() <= token_count() - first,
                 "tokens to copy lie within the file");
  state_->visit([&](const auto* tokens) { std::copy_n(tokens + first, out.size(), out.begin()); });
}

Result<void> TokenFile::check_vocabulary(std::uint64_t vocab_size) const {
  const auto found = state_->visit([&](const auto* tokens) -> std::optional<std::uint64_t> {
    const auto* end = tokens + token_count();
    const auto* place = std::find_if(tokens, end, [&](auto token) { return token >= vocab_size; });
    return place == end ? std::nullopt : std::optional<std::uint64_t>(place - tokens);
  });
  if (!found) {
    return {};
  }
  std::int64_t token = 0;
  copy(*found, {&token, 1});
  return invalid(path(), "token " + std::to_string(token) + " at position " +
                             std::to_string(*found) + " is outside the vocabulary of " +
                             std::to_string(vocab_size));
}

Result<BatchSampler> BatchSampler::create(const TokenFile& file, std::uint32_t context,
                                          std::uint64_t seed) {
  SPILLWAY_CHECK(context >= 1, "a sample has at least one token and its target");
  const std::uint64_t needed = std::uint64_t{context} + 1;
  if (file.token_count() < needed) {
    return invalid(file.path(), "has " + std::to_string(file.token_count()) +
                                    " tokens, a sample of context " + std::to_string(context) +
                                    " needs " + std::to_string(needed));
  }
  return BatchSampler(file, context, seed);
}

void BatchSampler::copy_sample(std::uint64_t first, std::span<std::int64_t> inputs,
                               std::span<std::int64_t> targets) const {
  SPILLWAY_CHECK(inputs.size() == context_ && targets.size() == context_,
                 "a sample has `context` inputs and as many targets");
  file_->copy(first, inputs);
  file_->copy(first + 1, targets);
}

void BatchSampler::training_sample(std::uint64_t step, std::uint64_t sample,
                                   std::span<std::int64_t> inputs,
                                   std::span<std::int64_t> targets) const {
  // Sets the places apart from other numbers derived from the same seed, step and sample.
  constexpr std::uint64_t kPurpose = 0x64617461;  // "data"
  const std::uint64_t places = file_->token_count() - context_;
  copy_sample(derive_seed(seed_, step, sample, kPurpose) % places, inputs, targets);
}

void BatchSampler::evaluation_sample(std::uint64_t sample, std::uint64_t sample_count,
                                     std::span<std::int64_t> inputs,
                                     std::span<std::int64_t> targets) const {
  SPILLWAY_CHECK(sample < sample_count, "evaluation samples count from 0 to sample_count - 1");
  // floor(sample * places / sample_count), in two parts so that the product fits: 5 samples of
  // 12 places begin at 0, 2, 4, 7, 9.
  const std::uint64_t places = file_->token_count() - context_;
  const std::uint64_t first =
      places / sample_count * sample + places % sample_count * sample / sample_count;
  copy_sample(first, inputs, targets);
}

double bigram_entropy(const TokenFile& file) {
  SPILLWAY_CHECK(file.format() == TokenFormat::kText, "the bigrams of bytes are those of a text");
  constexpr std::size_t kBytes = 256;
  std::vector<std::uint64_t> pairs(kBytes * kBytes);
  std::vector<std::int64_t> chunk(std::size_t{1} << 16);
  for (std::uint64_t first = 0; first + 1 < file.token_count(); first += chunk.size() - 1) {
    chunk.resize(std::min<std::uint64_t>(chunk.size(), file.token_count() - first));
    file.copy(first, chunk);
    for (std::size_t i = 0; i + 1 < chunk.size(); ++i) {
      ++pairs[chunk[i] * kBytes + chunk[i + 1]];
    }
  }
  // H(next | present) = sum over pairs of p(present, next) * log(1 / p(next | present)).
  double nats = 0;
  for (std::size_t present = 0; present < kBytes; ++present) {
    const std::span row(pairs.data() + present * kBytes, kBytes);
    double row_count = 0;
    for (const std::uint64_t count : row) {
      row_count += static_cast<double>(count);
    }
    for (const std::uint64_t count : row) {
      if (count != 0) {
        nats += static_cast<double>(count) * std::log(row_count / static_cast<double>(count));
      }
    }
  }
  return file.token_count() < 2 ? 0.0 : nats / static_cast<double>(file.token_count() - 1);
}

}  // namespace spillway::trainer
