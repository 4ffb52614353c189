// A GPT-2 in Hugging Face's layout, read as our parameters: any range, any file layout, or refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/model.h>
#include "trainer/interchange/hf_import.h"
#include "trainer/models/gpt2/family.h"
#include "trainer/models/gpt2/tensors.h"

#include <cstring>
#include <functional>
#include <limits>
#include <random>

#include "tests/support/scratch.h"
#include "tests/support/seed.h"
#include "tests/trainer/files/safetensors_fixture.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

GptConfig small_gpt(bool tied) {
  GptConfig config;
  config.n_layer = 2;
  config.n_embd = 12;
  config.n_head = 3;
  config.n_positions = 5;
  config.vocab_size = 7;
  config.tie_word_embeddings = tied;
  return config;
}

Result<HuggingFaceWeights> open_gpt(const std::filesystem::path& directory, const GptConfig& config,
                                    std::uint64_t group_values = HuggingFaceWeights::kGroupValues) {
  return HuggingFaceWeights::open(directory, *gpt2_model(config), group_values);
}

// Element `at` of our parameter: exact in bf16 too.
float value_of(const std::string& parameter, std::uint64_t at) {
  const std::uint64_t mixed = (std::hash<std::string>()(parameter) + at * 40503) % 251;
  return static_cast<float>(mixed) - 125.0f;
}

std::vector<float> tensor_values(const TensorSlice& entry) {
  const auto rows = static_cast<std::uint64_t>(entry.shape[0]);
  const auto columns = static_cast<std::uint64_t>(entry.shape.size() > 1 ? entry.shape[1] : 1);
  std::vector<float> values(rows * columns);
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (std::uint64_t column = 0; column < columns; ++column) {
      const float value = value_of(entry.parameter, row * columns + column);
      values[entry.transposed ? column * rows + row : row * columns + column] = value;
    }
  }
  return values;
}

// All tensors of the model; `named` may rename them.
std::vector<NamedValues> model_values(
    const GptConfig& config, const std::string& dtype,
    const std::function<std::string(std::string)>& named = [](std::string name) { return name; }) {
  std::vector<NamedValues> all;
  const TensorMap map = gpt2_tensors(config);
  for (const TensorSlice& entry : map.slices) {
    all.push_back({named(entry.tensor), tensor_shape({&entry}), dtype,
                   bytes_of_values(tensor_values(entry), dtype)});
  }
  return all;
}

std::string without_prefix(std::string name) {
  return name.starts_with("transformer.") ? name.substr(12) : name;
}

void expect_all_read(HuggingFaceWeights& weights, const GptConfig& config, std::uint64_t rounds) {
  std::mt19937_64 draw(test_seed(13));
  const TensorMap map = gpt2_tensors(config);
  for (const TensorSlice& entry : map.slices) {
    std::uint64_t elements = 1;
    for (const std::int64_t size : entry.shape) elements *= static_cast<std::uint64_t>(size);
    for (std::uint64_t round = 0; round < rounds; ++round) {
      const std::uint64_t first = round == 0 ? 0 : draw() % elements;
      const std::uint64_t count = round == 0 ? elements : 1 + draw() % (elements - first);
      std::vector<float> values(count);
      const auto read = weights.read(entry.parameter, first, values);
      ASSERT_TRUE(read) << read.error().message();
      for (std::uint64_t i = 0; i < count; ++i) {
        ASSERT_EQ(values[i], value_of(entry.parameter, first + i)) << entry.parameter;
      }
    }
  }
}

TEST(Gpt2Weights, AnyRangeOfAnyParameterIsRead) {
  for (const bool tied : {true, false}) {
    for (const char* dtype : {"F32", "BF16"}) {
      for (const bool prefixed : {true, false}) {
        const Scratch scratch;
        const GptConfig config = small_gpt(tied);
        write_safetensors(
            scratch / "model.safetensors",
            prefixed ? model_values(config, dtype) : model_values(config, dtype, without_prefix));
        // Projections whole, in bands of some rows, and row by row.
        for (const std::uint64_t group : {1'000'000, 100, 1}) {
          auto weights = open_gpt(scratch.path(), config, group);
          ASSERT_TRUE(weights) << weights.error().message();
          EXPECT_EQ(weights->dtypes(), dtype);
          expect_all_read(*weights, config, 10);
        }
      }
    }
  }
}

TEST(Gpt2Weights, ANameOfTheHubIsNotFetchedAndTheErrorSaysSo) {
  const Scratch scratch;
  const auto hub = load_hugging_face_config("openai-community/gpt2");
  ASSERT_FALSE(hub);
  EXPECT_THAT(hub.error().message(), HasSubstr("nothing is fetched from the Hugging Face hub"));
  const auto empty = load_hugging_face_config(scratch.path());
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().message(), Not(HasSubstr("fetched"))) << "a directory without the file";
}

TEST(Gpt2Weights, SeveralFilesAreOneModel) {
  const Scratch scratch;
  const GptConfig config = small_gpt(false);
  const std::vector<NamedValues> all = model_values(config, "F32");
  const auto middle = all.begin() + 9;
  write_safetensors(scratch / "model-1.safetensors", {all.begin(), middle});
  write_safetensors(scratch / "model-2.safetensors", {middle, all.end()});
  std::string map;
  for (std::size_t i = 0; i < all.size(); ++i) {
    map += (i == 0 ? "" : ", ") + std::string("\"") + all[i].name + "\": \"model-" +
           (i < 9 ? "1" : "2") + ".safetensors\"";
  }
  write_bytes(scratch / "model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  auto weights = open_gpt(scratch.path(), config);
  ASSERT_TRUE(weights) << weights.error().message();
  EXPECT_EQ(weights->file_count(), 2u);
  expect_all_read(*weights, config, 3);
}

class Gpt2WeightsRefused : public ::testing::Test {
 protected:
  void expect(const std::vector<NamedValues>& values, const GptConfig& config,
              const std::string& reason) {
    write_safetensors(scratch_ / "model.safetensors", values);
    const auto weights = open_gpt(scratch_.path(), config);
    ASSERT_FALSE(weights) << reason;
    EXPECT_THAT(weights.error().message(), HasSubstr(reason));
  }
  Scratch scratch_;
};

TEST_F(Gpt2WeightsRefused, WhatIsNotTheModelIsNamed) {
  const GptConfig tied = small_gpt(true), untied = small_gpt(false);
  std::vector<NamedValues> values = model_values(tied, "F32");
  expect(values, untied, "no tensor 'lm_head.weight' (config.json: tie_word_embeddings is false)");
  std::vector<NamedValues> more = values;
  more.push_back({"score.weight", {1}, "F32", "1234"});
  expect(more, tied, "no place for tensor 'transformer.score.weight'");
  more = values;
  more.push_back({"wte.weight", {7, 12}, "F32", values[0].bytes});
  expect(more, tied, "'transformer.wte.weight' is there twice");
  std::vector<NamedValues> fewer(values.begin() + 1, values.end());
  expect(fewer, tied, "there is no tensor 'transformer.wte.weight'");
  GptConfig longer = tied;
  longer.n_positions = 6;
  expect(values, longer, "'transformer.wpe.weight' has the shape [5,12], the model's is [6,12]");
  GptConfig huge = tied;
  huge.n_layer = 1'000'000'000;
  expect(values, huge, "1000000000 blocks");
  values[3].dtype = "I32";
  expect(values, tied, "is of I32; F32, BF16 and F16 are read");
}

// Else the first step blames the learning rate.
TEST_F(Gpt2WeightsRefused, AValueThatIsNotFiniteIsNamedWithItsTensor) {
  const GptConfig config = small_gpt(true);
  for (const std::uint64_t group : {HuggingFaceWeights::kGroupValues, std::uint64_t{1}}) {
    for (const auto& [value, text] :
         {std::pair(std::numeric_limits<float>::quiet_NaN(), "has NaN at value 17"),
          std::pair(-std::numeric_limits<float>::infinity(), "has an infinity at value 17")}) {
      std::vector<NamedValues> values = model_values(config, "F32");
      const TensorMap map = gpt2_tensors(config);
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i].bytes.size() <= 17 * sizeof(float)) continue;
        const std::string before = values[i].bytes;
        std::memcpy(values[i].bytes.data() + 17 * sizeof(float), &value, sizeof(float));
        write_safetensors(scratch_ / "model.safetensors", values);
        values[i].bytes = before;
        auto weights = open_gpt(scratch_.path(), config, group);
        ASSERT_TRUE(weights) << weights.error().message();
        std::vector<float> read_values(before.size() / sizeof(float));
        const auto read = weights->read(map.slices[i].parameter, 0, read_values);
        ASSERT_FALSE(read) << values[i].name;
        EXPECT_THAT(read.error().message(), HasSubstr("tensor '" + values[i].name + "' " + text));
      }
    }
  }
}

TEST_F(Gpt2WeightsRefused, ATiedHeadMustBeTheEmbedding) {
  const GptConfig config = small_gpt(true);
  std::vector<NamedValues> values = model_values(config, "F32");
  values.push_back({"lm_head.weight", {7, 12}, "F32", values[0].bytes});
  values.push_back({"transformer.h.0.attn.bias", {1, 1, 2, 2}, "BOOL", "1234"});
  values.push_back({"h.1.attn.masked_bias", {}, "F32", "1234"});
  write_safetensors(scratch_ / "model.safetensors", values);
  EXPECT_TRUE(open_gpt(scratch_.path(), config));
  values[values.size() - 3].bytes.back() ^= 1;
  expect(values, config, "lm_head.weight is not wte.weight");
}

TEST_F(Gpt2WeightsRefused, AnIndexLeavesItsDirectoryNever) {
  const auto refused = [&](const std::string& index, const std::string& reason) {
    write_bytes(scratch_ / "model.safetensors.index.json", index);
    const auto weights = open_gpt(scratch_.path(), small_gpt(true));
    ASSERT_FALSE(weights);
    EXPECT_THAT(weights.error().message(), HasSubstr(reason));
  };
  EXPECT_THAT(open_gpt(scratch_.path(), small_gpt(true)).error().message(),
              HasSubstr("neither model.safetensors nor model.safetensors.index.json"));
  refused(R"({"weight_map": {"a": "../x"}})", "no plain file name");
  refused(R"({"weight_map": {"a": "/etc/passwd"}})", "no plain file name");
  refused(R"({"weight_map": {"a": ""}})", "no plain file name");
  refused(R"({"weight_map": {"a": 3}})", "3 is no plain file name");
  refused(R"({"weight_map": {}})", "no weight_map");
  refused(R"({"weight_map": "x"})", "no weight_map");
  refused("[", "no weight_map");
  refused(R"({"weight_map": {"a": "none.safetensors"}})", "none.safetensors");
}

TEST(Gpt2Config, WhatWeWriteWeRead) {
  const Scratch scratch;
  GptConfig config = small_gpt(false);
  config.attn_pdrop = 0.25;
  config.layer_norm_epsilon = 1.0 / 3.0;
  write_bytes(scratch / "config.json", gpt2_config_json(config, "float32"));
  const auto read = load_hugging_face_config(scratch.path());
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ((*read)->differences(*gpt2_model(config)), "");
  EXPECT_EQ(gpt_config(**read).attn_pdrop, 0.25);
  EXPECT_EQ(gpt_config(**read).initializer_range, config.initializer_range);
  GptConfig other = config;
  other.n_layer = 3;
  other.tie_word_embeddings = true;
  EXPECT_EQ(model_differences(config, other),
            "n_layer is 2 there and 3 in this run\n"
            "tie_word_embeddings is false there and true in this run");
  write_bytes(scratch / "config.json", R"({"model_type": "llama"})");
  EXPECT_THAT(load_hugging_face_config(scratch.path()).error().message(), HasSubstr("\"gpt2\""));
}

}  // namespace
}  // namespace spillway::trainer::testing
