// GptConfig: the shape of a GPT-2 style model, in GPT-2's own terms.
//
// Parameters (names and shapes as in GPT-2): wte [vocab_size, n_embd], wpe [n_positions, n_embd];
// per block ln_1, attn.c_attn [n_embd -> 3 n_embd], attn.c_proj [n_embd -> n_embd], ln_2,
// mlp.c_fc [n_embd -> 4 n_embd], mlp.c_proj [4 n_embd -> n_embd], each with a bias; ln_f; and,
// when the embedding is not tied, lm_head [vocab_size, n_embd] without one.
#pragma once

#include <spillway/aio/error.h>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::trainer {

struct GptConfig {
  std::uint32_t n_layer = 12;
  std::uint32_t n_embd = 768;  // width; a multiple of n_head
  std::uint32_t n_head = 12;
  std::uint32_t n_positions = 1024;  // context, in tokens
  std::uint32_t vocab_size = 50257;
  bool tie_word_embeddings = true;  // the head borrows wte
  double attn_pdrop = 0.0;          // dropout on attention weights, ...
  double embd_pdrop = 0.0;          // ... on the sum of both embeddings, ...
  double resid_pdrop = 0.0;         // ... on what a block's two halves add
  double layer_norm_epsilon = 1e-5;
  double initializer_range = 0.02;  // standard deviation of initial weights
};

// kInvalid with every problem, one per line, when the numbers make no model.
Result<void> validate(const GptConfig& config);

// Reads a JSON object with GPT-2's keys. Keys of GPT-2 that change nothing here (bos_token_id, ...)
// are accepted; any other unknown key is an error that names the nearest right one. A key that is
// absent has the default above: dropout 0, tied. kInvalid with every problem, one per line.
Result<GptConfig> read_gpt(std::string_view json, const std::string& path);
// The keys above, as a JSON object.
std::string gpt_json(const GptConfig& config);

// "gpt-lite": 12 layers, width 768, context 2048, bytes as tokens, untied, dropout 0.1.
// "gpt-lite-small": 4 layers, width 256, context 128, bytes as tokens, untied, no dropout:
// what two CPU cores teach Shakespeare in two minutes.
std::vector<std::string> gpt_names();
std::optional<GptConfig> named_gpt(const std::string& name);

struct UnitSize {
  std::string name;              // "embedding", "block 0", ..., "head"
  std::uint64_t parameters = 0;  // elements this unit owns
};

// The units in forward order: embedding (wte, wpe), n_layer blocks, head (ln_f, lm_head if untied).
std::vector<UnitSize> unit_sizes(const GptConfig& config);
// Elements in all; a tied embedding counts once.
std::uint64_t parameter_count(const GptConfig& config);

}  // namespace spillway::trainer
