#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <filesystem>
#include <fstream>
#include "trainer/models/gpt2/family.h"

namespace spillway::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Result<GptConfig> load_gpt(const std::string& name_or_path) {
  const auto model = load_model_config(name_or_path);
  if (!model) return tl::unexpected(model.error());
  return gpt_config(**model);
}

class GptConfigTest : public ::testing::Test {
 protected:
  // Loads a model from `json`, written to a file of this test's own.
  Result<GptConfig> load(const std::string& json) {
    const std::filesystem::path path =
        std::filesystem::path(::testing::TempDir()) /
        (std::string("spillway_model_") +
         ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json");
    std::ofstream(path) << json;
    Result<GptConfig> model = load_gpt(path.string());
    std::filesystem::remove(path);
    return model;
  }
  std::string problem(const std::string& json) {
    const Result<GptConfig> model = load(json);
    return model ? "accepted" : model.error().detail;
  }
};

TEST_F(GptConfigTest, GptLiteIsTwelveLayersOf768OverBytesUntied) {
  const Result<GptConfig> model = load_gpt("gpt-lite");
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_EQ(model->n_layer, 12u);
  EXPECT_EQ(model->n_embd, 768u);
  EXPECT_EQ(model->n_head, 12u);
  EXPECT_EQ(model->n_positions, 2048u);
  EXPECT_EQ(model->vocab_size, 256u);
  EXPECT_FALSE(model->tie_word_embeddings);
  EXPECT_EQ(model->attn_pdrop, 0.1);
  EXPECT_EQ(model->embd_pdrop, 0.1);
  EXPECT_EQ(model->resid_pdrop, 0.1);
}

TEST_F(GptConfigTest, CountsTheParametersOfGpt2) {
  const GptConfig gpt2;  // the published 124,439,808 of GPT-2's smallest model
  EXPECT_EQ(parameter_count(gpt2), 124'439'808u);
  GptConfig untied = gpt2;
  untied.tie_word_embeddings = false;
  EXPECT_EQ(parameter_count(untied), 124'439'808u + 50257u * 768u);
  EXPECT_EQ(unit_sizes(gpt2).size(), 14u);
  EXPECT_EQ(unit_sizes(gpt2).front().parameters, (50257u + 1024u) * 768u);
  EXPECT_EQ(unit_sizes(gpt2).back().parameters, 2u * 768u);
}

TEST_F(GptConfigTest, ReadsGpt2sOwnFile) {
  const Result<GptConfig> model = load(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.2, "eos_token_id": 50256, "initializer_range": 0.01,
    "layer_norm_epsilon": 1e-06, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 64, "n_head": 4,
    "n_layer": 2, "n_positions": 1024, "resid_pdrop": 0.3, "summary_activation": null,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": true, "summary_type": "cls_index",
    "summary_use_proj": true, "n_inner": null, "vocab_size": 5.0257e4,
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}})");
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_EQ(model->n_embd, 64u);
  EXPECT_EQ(model->vocab_size, 50257u);
  EXPECT_EQ(model->attn_pdrop, 0.1);
  EXPECT_EQ(model->embd_pdrop, 0.2);
  EXPECT_EQ(model->resid_pdrop, 0.3);
  EXPECT_EQ(model->layer_norm_epsilon, 1e-6);
  EXPECT_EQ(model->initializer_range, 0.01);
  EXPECT_TRUE(model->tie_word_embeddings);
}

constexpr const char* kSizes =
    R"("n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 32, "vocab_size": 256)";

TEST_F(GptConfigTest, AbsentKeysMeanNoDropoutAndTied) {
  const Result<GptConfig> model = load(std::string("{") + kSizes + "}");
  ASSERT_TRUE(model) << model.error().message();
  EXPECT_EQ(model->attn_pdrop, 0.0);
  EXPECT_EQ(model->embd_pdrop, 0.0);
  EXPECT_EQ(model->resid_pdrop, 0.0);
  EXPECT_TRUE(model->tie_word_embeddings);
}

TEST_F(GptConfigTest, SizesMayNotBeMissing) {
  EXPECT_THAT(problem(R"({"n_layer": 2, "n_embd": 64})"),
              AllOf(HasSubstr("n_head: missing"), HasSubstr("n_positions: missing"),
                    HasSubstr("vocab_size: missing")));
}

TEST_F(GptConfigTest, UnknownKeyNamesTheNearestAndItsPlace) {
  EXPECT_EQ(problem(std::string("{") + kSizes + ",\n  \"n_heads\": 4}"),
            "n_heads: unknown key, did you mean 'n_head'? (line 2, column 3)");
}

TEST_F(GptConfigTest, OtherArithmeticIsRefused) {
  const std::string model = std::string("{") + kSizes + ", ";
  EXPECT_THAT(problem(model + R"("activation_function": "relu"})"), HasSubstr("gelu_new"));
  EXPECT_THAT(problem(model + R"("scale_attn_by_inverse_layer_idx": true})"), HasSubstr("false"));
  EXPECT_THAT(problem(model + R"("n_inner": 100})"), HasSubstr("only 256 (4 x n_embd)"));
  EXPECT_EQ(problem(model + R"("n_inner": 256, "activation_function": "gelu_new"})"), "accepted");
}

TEST_F(GptConfigTest, WidthMustDivideByHeads) {
  EXPECT_THAT(problem(R"({"n_layer": 2, "n_embd": 65, "n_head": 4, "n_positions": 32,
                          "vocab_size": 256})"),
              HasSubstr("n_embd: 65 is not a multiple of n_head 4 (remainder 1)"));
}

TEST_F(GptConfigTest, WrongValuesAreAllReported) {
  EXPECT_THAT(
      problem(R"({"n_layer": 0, "n_embd": "64", "n_head": 2.5, "n_positions": 32,
                          "vocab_size": 256, "tie_word_embeddings": 1, "attn_pdrop": "a"})"),
      AllOf(HasSubstr("n_layer: a whole number"), HasSubstr("found \"64\""), HasSubstr("found 2.5"),
            HasSubstr("tie_word_embeddings: true or false"), HasSubstr("attn_pdrop: a number")));
  EXPECT_THAT(problem(std::string("{") + kSizes + R"(, "resid_pdrop": 1.0})"),
              HasSubstr("resid_pdrop: 1.0 is not in [0, 1)"));
}

TEST_F(GptConfigTest, NeitherNameNorFile) {
  const Result<GptConfig> model = load_gpt("gpt-lit");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(model.error().detail, HasSubstr("did you mean 'gpt-lite'?"));
}

}  // namespace
}  // namespace spillway::trainer
