// TokenFile maps a file of tokens; BatchSampler chooses the tokens of each sample.
//
// Formats: plain text (a byte is a token), llm.c (256 x int32 header, magic 20240520: uint16
// tokens, 20240801: uint32 tokens), nanoGPT (no header, uint16: a file *.bin without such a magic,
// or on request). A sample is a function of (seed, step, its global number in the step) alone:
// ranks, accumulation, resuming and evaluation never change it.
#pragma once

#include <spillway/aio/error.h>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace spillway::trainer {

enum class TokenFormat { kAuto, kText, kLlmc, kNanoGpt };

// Move-only; any thread may read. The file must not shrink while it is open: reading beyond its new
// end raises SIGBUS.
class TokenFile {
 public:
  // Opens and maps a file. Errors: kNotFound, kPermission and kIo from the system; kInvalid if it
  // is no token file (a directory, empty, of odd size, a header that does not match the size).
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
  // Checks all tokens against `vocab_size`. kInvalid names token and place. Reads the whole file.
  Result<void> check_vocabulary(std::uint64_t vocab_size) const;

 private:
  struct State;
  explicit TokenFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Chooses `context + 1` consecutive tokens for a sample; in training, at a place drawn from (seed,
// step, sample). Refers to `file`, which must outlive it and not move. Any thread may call.
class BatchSampler {
 public:
  // kInvalid if the file has fewer than context + 1 tokens; the error names both numbers.
  static Result<BatchSampler> create(const TokenFile& file, std::uint32_t context,
                                     std::uint64_t seed);
  // Copies tokens i and i + 1 of the sample to inputs[i] and targets[i], i < context.
  void training_sample(std::uint64_t step, std::uint64_t sample, std::span<std::int64_t> inputs,
                       std::span<std::int64_t> targets) const;
  // As above, at the `sample`-th of `sample_count` evenly spread places, in every evaluation.
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

// Returns the entropy of the next byte given the current one, in nats: the loss of the best bigram
// model of the text. REQUIRES: format kText. Reads the whole file.
double bigram_entropy(const TokenFile& file);

}  // namespace spillway::trainer
