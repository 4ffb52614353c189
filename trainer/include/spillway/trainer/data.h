// TokenFile: tokens on disk, mapped, never loaded whole; BatchSampler: which tokens a sample is.
//
// Formats: plain text (a byte is a token), llm.c (256 x int32 header, magic 20240520: uint16
// tokens, 20240801: uint32 tokens), nanoGPT (headerless uint16, by the name *.bin without such a
// magic, or asked for). A sample depends on (seed, step, its global number in the step) and on
// nothing else, so ranks, accumulation, resume and evaluation never disturb it.
#pragma once

#include <spillway/aio/error.h>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace spillway::trainer {

enum class TokenFormat { kAuto, kText, kLlmc, kNanoGpt };

// Move-only; any thread may read. The file must keep its size while it is open: the kernel answers
// a read of what was cut off with SIGBUS.
class TokenFile {
 public:
  // Errors: kNotFound, kPermission and kIo from the system; kInvalid for what is no token file (a
  // directory, empty, odd size, a header that does not match the size).
  static Result<TokenFile> open(const std::filesystem::path& path,
                                TokenFormat format = TokenFormat::kAuto);
  TokenFile(TokenFile&&) noexcept;
  TokenFile& operator=(TokenFile&&) noexcept;
  ~TokenFile();

  TokenFormat format() const noexcept;
  const std::string& path() const noexcept;
  std::uint64_t token_count() const noexcept;
  // Copies tokens [first, first + out.size()). REQUIRES: within token_count().
  void copy(std::uint64_t first, std::span<std::int64_t> out) const;
  // kInvalid, naming token and place, when a token is not below `vocab_size`. Reads the whole file.
  Result<void> check_vocabulary(std::uint64_t vocab_size) const;

 private:
  struct State;
  explicit TokenFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Which tokens a sample is. Refers to `file`, which must stay where it is. Any thread may ask.
// Training samples: `context + 1` consecutive tokens at a place drawn from (seed, step, sample).
class BatchSampler {
 public:
  // kInvalid when the file is shorter than context + 1 tokens, with both numbers.
  static Result<BatchSampler> create(const TokenFile& file, std::uint32_t context,
                                     std::uint64_t seed);
  // inputs[i] and targets[i], i < context, are tokens i and i + 1 of the sample.
  void training_sample(std::uint64_t step, std::uint64_t sample, std::span<std::int64_t> inputs,
                       std::span<std::int64_t> targets) const;
  // Held-out data: sample k is the k-th of evenly spread places, the same at every evaluation.
  void evaluation_sample(std::uint64_t sample, std::uint64_t sample_count,
                         std::span<std::int64_t> inputs, std::span<std::int64_t> targets) const;

 private:
  BatchSampler(const TokenFile& file, std::uint32_t context, std::uint64_t seed)
      : file_(&file), context_(context), seed_(seed) {}
  void copy_sample(std::uint64_t first, std::span<std::int64_t> inputs,
                   std::span<std::int64_t> targets) const;

  const TokenFile* file_;
  std::uint32_t context_;
  std::uint64_t seed_;
};

// Entropy of the next byte given the present one, in nats: the loss of the best bigram model of a
// text. REQUIRES: format kText. Reads the whole file.
double bigram_entropy(const TokenFile& file);

}  // namespace spillway::trainer
