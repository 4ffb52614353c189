#include "spillway/trainer/data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <set>
#include <vector>

namespace spillway::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Data : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "spillway_data_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& bytes) {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::filesystem::path folder_;
};

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string llmc_header(std::int32_t magic, std::int32_t version, std::int32_t count) {
  std::vector<std::int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  return bytes_of(header);
}

std::vector<std::int64_t> all_tokens(const TokenFile& file) {
  std::vector<std::int64_t> tokens(file.token_count());
  file.copy(0, tokens);
  return tokens;
}

void expect_invalid(const std::filesystem::path& path, TokenFormat format,
                    const std::string& reason) {
  const Result<TokenFile> file = TokenFile::open(path, format);
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(file.error().message(), HasSubstr(reason));
  EXPECT_THAT(file.error().message(), HasSubstr(path.string()));
}

TEST_F(Data, TextIsOneTokenAByte) {
  const auto file = TokenFile::open(write("plays.txt", "Ab\xff"));
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->format(), TokenFormat::kText);
  EXPECT_THAT(all_tokens(*file), ElementsAre('A', 'b', 255));
}

TEST_F(Data, LlmcHoldsTokensOfTwoOrFourBytes) {
  const auto narrow = TokenFile::open(
      write("narrow.bin",
            llmc_header(20240520, 1, 3) + bytes_of(std::vector<std::uint16_t>{1, 50256, 65535})));
  ASSERT_TRUE(narrow) << narrow.error().message();
  EXPECT_EQ(narrow->format(), TokenFormat::kLlmc);
  EXPECT_THAT(all_tokens(*narrow), ElementsAre(1, 50256, 65535));
  const auto wide = TokenFile::open(write(
      "wide.bin",
      llmc_header(20240801, 7, 2) + bytes_of(std::vector<std::uint32_t>{128000, 4000000000})));
  ASSERT_TRUE(wide) << wide.error().message();
  EXPECT_EQ(wide->format(), TokenFormat::kLlmc);
  EXPECT_THAT(all_tokens(*wide), ElementsAre(128000, 4000000000));
}

TEST_F(Data, NanoGptIsKnownByItsNameOrAskedFor) {
  const std::string bytes = bytes_of(std::vector<std::uint16_t>{7, 50256});
  const auto named = TokenFile::open(write("train.bin", bytes));
  ASSERT_TRUE(named) << named.error().message();
  EXPECT_EQ(named->format(), TokenFormat::kNanoGpt);
  EXPECT_THAT(all_tokens(*named), ElementsAre(7, 50256));
  const auto path = write("tokens", bytes);
  EXPECT_EQ(TokenFile::open(path)->format(), TokenFormat::kText);
  EXPECT_THAT(all_tokens(*TokenFile::open(path, TokenFormat::kNanoGpt)), ElementsAre(7, 50256));
  EXPECT_EQ(TokenFile::open(write("a.bin", "abc"), TokenFormat::kText)->token_count(), 3u);
}

TEST_F(Data, RefusesAFileCutShort) {
  const std::string whole =
      llmc_header(20240520, 1, 3) + bytes_of(std::vector<std::uint16_t>{1, 2, 3});
  expect_invalid(write("a.bin", whole.substr(0, 1000)), TokenFormat::kAuto,
                 "llm.c header of 1024 bytes is cut short at 1000");
  expect_invalid(write("b.bin", whole.substr(0, whole.size() - 1)), TokenFormat::kAuto,
                 "promises 3 tokens, 1030 bytes, but the file has 1029");
  expect_invalid(write("c.bin", whole + "x"), TokenFormat::kAuto, "but the file has 1031");
  expect_invalid(write("d.bin", llmc_header(20240801, 1, 0)), TokenFormat::kAuto,
                 "llm.c version 1, expected 7");
  expect_invalid(write("e.bin", "abc"), TokenFormat::kAuto, "even size, the file has 3 bytes");
  expect_invalid(write("f.txt", "plain text"), TokenFormat::kLlmc, "does not begin with magic");
  expect_invalid(write("g.txt", "abc"), TokenFormat::kLlmc, "does not begin with magic");
}

TEST_F(Data, RefusesWhatIsNoFileOfTokens) {
  expect_invalid(write("empty.txt", ""), TokenFormat::kAuto, "the file is empty");
  expect_invalid(folder_, TokenFormat::kAuto, "is a directory");
  const auto pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_invalid(pipe, TokenFormat::kAuto, "is not a plain file");
  const auto missing = TokenFile::open(folder_ / "nowhere.txt");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("nowhere.txt"));
}

TEST_F(Data, CopyStaysWithinTheFile) {
  const auto file = TokenFile::open(write("a.txt", "abcdef"));
  std::vector<std::int64_t> out(3);
  file->copy(3, out);
  EXPECT_THAT(out, ElementsAre('d', 'e', 'f'));
  EXPECT_DEATH(file->copy(4, out), "within the file");
  EXPECT_DEATH(file->copy(~std::uint64_t{0}, out), "within the file");
}

TEST_F(Data, VocabularyIsCheckedToTheLastToken) {
  const auto file =
      TokenFile::open(write("train.bin", bytes_of(std::vector<std::uint16_t>{3, 50256, 0, 50257})));
  EXPECT_TRUE(file->check_vocabulary(50258));
  const auto last = file->check_vocabulary(50257);
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(last.error().message(),
              HasSubstr("token 50257 at position 3 is outside the vocabulary of 50257"));
  EXPECT_THAT(file->check_vocabulary(256).error().message(),
              HasSubstr("token 50256 at position 1"));
}

// A file whose token at place i is i: a sample shows where it was taken.
class Samples : public Data {
 protected:
  static constexpr std::uint32_t kContext = 4;

  TokenFile counting(std::uint16_t count) {
    std::vector<std::uint16_t> tokens(count);
    std::iota(tokens.begin(), tokens.end(), 0);
    return std::move(*TokenFile::open(write("count.bin", bytes_of(tokens))));
  }

  // Where the sample begins, having checked that it is consecutive.
  static std::int64_t start(const std::vector<std::int64_t>& inputs,
                            const std::vector<std::int64_t>& targets) {
    for (std::size_t i = 0; i < kContext; ++i) {
      EXPECT_EQ(inputs[i], inputs[0] + static_cast<std::int64_t>(i));
      EXPECT_EQ(targets[i], inputs[i] + 1);
    }
    return inputs[0];
  }
  static std::int64_t training(const BatchSampler& sampler, std::uint64_t step, std::uint64_t k) {
    std::vector<std::int64_t> inputs(kContext), targets(kContext);
    sampler.training_sample(step, k, inputs, targets);
    return start(inputs, targets);
  }
  static std::int64_t evaluation(const BatchSampler& sampler, std::uint64_t k,
                                 std::uint64_t count) {
    std::vector<std::int64_t> inputs(kContext), targets(kContext);
    sampler.evaluation_sample(k, count, inputs, targets);
    return start(inputs, targets);
  }
};

TEST_F(Samples, RefuseAFileShorterThanOneSample) {
  const TokenFile file = counting(kContext);
  const auto sampler = BatchSampler::create(file, kContext, 1);
  ASSERT_FALSE(sampler.has_value());
  EXPECT_EQ(sampler.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(sampler.error().message(), HasSubstr("has 4 tokens, a sample of context 4 needs 5"));
}

TEST_F(Samples, OfTheShortestFileAreItsOnlyPlace) {
  const TokenFile file = counting(kContext + 1);
  const auto sampler = BatchSampler::create(file, kContext, 1);
  for (std::uint64_t k = 0; k < 20; ++k) {
    EXPECT_EQ(training(*sampler, 1, k), 0);
    EXPECT_EQ(evaluation(*sampler, k, 20), 0);
  }
}

TEST_F(Samples, DependOnSeedStepAndNumberAlone) {
  const TokenFile file = counting(60000);
  const auto sampler = BatchSampler::create(file, kContext, 42);
  std::vector<std::int64_t> forward;
  for (std::uint64_t step = 1; step <= 10; ++step) {
    for (std::uint64_t k = 0; k < 8; ++k) {
      forward.push_back(training(*sampler, step, k));
    }
  }
  // Another sampler, evaluation in between, backward.
  const auto again = BatchSampler::create(file, kContext, 42);
  std::vector<std::int64_t> backward;
  for (std::uint64_t step = 10; step >= 1; --step) {
    evaluation(*again, 0, 3);
    for (std::uint64_t k = 8; k-- > 0;) {
      backward.push_back(training(*again, step, k));
    }
  }
  std::ranges::reverse(backward);
  EXPECT_EQ(forward, backward);
  EXPECT_GT(std::set(forward.begin(), forward.end()).size(), 75u) << "80 places of 60000";
  const auto other = BatchSampler::create(file, kContext, 43);
  EXPECT_NE(training(*other, 1, 0), training(*sampler, 1, 0));
}

TEST_F(Samples, CoverTheWholeFileEvenly) {
  const TokenFile file = counting(kContext + 10);  // places 0 to 9
  const auto sampler = BatchSampler::create(file, kContext, 7);
  std::vector<int> drawn(10);
  for (std::uint64_t k = 0; k < 10000; ++k) {
    ++drawn.at(training(*sampler, 1, k));
  }
  for (const int count : drawn) {
    EXPECT_NEAR(count, 1000, 150) << "five standard deviations of 30";
  }
}

TEST_F(Samples, OfEvaluationAreSpreadEvenly) {
  const TokenFile file = counting(12 + kContext);
  const auto sampler = BatchSampler::create(file, kContext, 7);
  std::vector<std::int64_t> places;
  for (std::uint64_t k = 0; k < 5; ++k) {
    places.push_back(evaluation(*sampler, k, 5));
  }
  EXPECT_THAT(places, ElementsAre(0, 2, 4, 7, 9));  // floor(12 k / 5)
  EXPECT_EQ(evaluation(*sampler, 39, 40), 11) << "more samples than places stay within";
  EXPECT_DEATH(evaluation(*sampler, 5, 5), "count from 0");
}

TEST_F(Data, BigramEntropyIsThatOfTheCounts) {
  // "abacaba": a is followed by b twice and by c once, b and c
  // by a always: H = 3/6 * H(2/3, 1/3).
  const double expected = 0.5 * (2.0 / 3 * std::log(3.0 / 2) + 1.0 / 3 * std::log(3.0));
  EXPECT_NEAR(bigram_entropy(*TokenFile::open(write("a.txt", "abacaba"))), expected, 1e-15);
  EXPECT_EQ(bigram_entropy(*TokenFile::open(write("b.txt", "x"))), 0.0);
  EXPECT_EQ(bigram_entropy(*TokenFile::open(write("c.txt", "xyxyxyxy"))), 0.0);
}

TEST_F(Data, BigramEntropyCountsEveryPairOfALongText) {
  // Every pair of 256 bytes once, in a cycle that visits each (a, b): H = log 256.
  std::string text;
  for (int a = 0; a < 256; ++a) {
    text += static_cast<char>(a);
    for (int b = a + 1; b < 256; ++b) {
      text += static_cast<char>(a);
      text += static_cast<char>(b);
    }
  }
  text += '\0';
  ASSERT_EQ(text.size(), 65537u);
  EXPECT_NEAR(bigram_entropy(*TokenFile::open(write("a.txt", text))), std::log(256.0), 1e-10);
}

}  // namespace
}  // namespace spillway::trainer
