// Safetensors files are read exactly, and whatever a header claims is checked before it is used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/scratch.h"
#include "tests/trainer/files/safetensors_fixture.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::HasSubstr;

TEST(SafetensorsHeader, SaysWhatIsThere) {
  const auto tensors = parse_safetensors_header(
      R"({"__metadata__": {"format": "pt", "x": "y"},
          "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]},
          "a": {"data_offsets": [0, 4], "shape": [], "dtype": "F32"},
          "none": {"dtype": "I64", "shape": [0, 7], "data_offsets": [16, 16]}}   )",
      16, "x");
  ASSERT_TRUE(tensors) << tensors.error().message();
  const std::vector<SafeTensor> expected{
      {"a", "F32", {}, 0, 4}, {"b", "BF16", {2, 3}, 4, 16}, {"none", "I64", {0, 7}, 16, 16}};
  EXPECT_EQ(*tensors, expected);
  EXPECT_EQ(*parse_safetensors_header("{}", 0, "x"), std::vector<SafeTensor>());
}

TEST(SafetensorsHeader, IsWrittenAsItIsRead) {
  const std::vector<SafeTensor> tensors{{"a\"\n", "F32", {3}, 0, 12}, {"b", "F16", {1, 2}, 12, 16}};
  const std::string head = safetensors_header(tensors);
  EXPECT_EQ(head.size() % 8, 0u);
  std::uint64_t length = 0;
  std::memcpy(&length, head.data(), sizeof(length));
  ASSERT_EQ(head.size(), 8 + length);
  EXPECT_THAT(head, HasSubstr(R"("format":"pt")"));
  EXPECT_EQ(*parse_safetensors_header(head.substr(8), 16, "x"), tensors);
}

struct BadHeader {
  const char* text;
  const char* reason;
  std::uint64_t data_bytes = 4;
};

TEST(SafetensorsHeader, WhatCannotBeIsRefusedWithTheReason) {
  const std::string deep(1'000'000, '[');
  const BadHeader cases[] = {
      {"", "no JSON"},
      {"[]", "an array stands"},
      {deep.c_str(), "an array stands"},
      {R"({"a": 1})", "a number stands"},
      {R"({"a": null})", "null"},
      {R"({"a": "F32"})", "a text stands"},
      {R"({"a": {}})", "lacks dtype"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}} x)", "no JSON"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},)"
       R"( "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
       "\"a\" is there twice"},
      {R"({"a": {"dtype": "F32", "dtype": "F16", "shape": [1], "data_offsets": [0, 4]}})",
       "\"dtype\" is there twice"},
      {R"({"__metadata__": {"a": "b", "a": "c"}})", "there twice"},
      {R"({"__metadata__": {"a": {"b": "c"}}})", "an object stands"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "x": 1}})", "unknown key"},
      {R"({"a": {"dtype": "F32", "shape": [[1]], "data_offsets": [0, 4]}})", "an array stands"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}})", "lacks"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}})", "not two numbers"},
      {R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", "below zero"},
      {R"({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}})", "no whole number"},
      {R"({"a": {"dtype": "F32", "shape": [18446744073709551617], "data_offsets": [0, 4]}})",
       "too large"},
      {R"({"a": {"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]}})", "unknown dtype \"Q4\""},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", "its shape and dtype 8"},
      // 2^62 x 4 x 4 bytes are 4 bytes modulo 2^64, but for the overflow.
      {R"({"a": {"dtype": "F32", "shape": [4611686018427387905, 1], "data_offsets": [0, 4]}})",
       "too many elements"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}})", "out of the file"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})", "out of the file"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}})",
       "out of the file"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},)"
       R"( "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
       "within another one"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})", "of nobody", 8},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})", "belong to no tensor",
       8},
      {"{\"a\xff\": 1}", "no JSON"},
  };
  for (const BadHeader& bad : cases) {
    const auto parsed = parse_safetensors_header(bad.text, bad.data_bytes, "the file");
    ASSERT_FALSE(parsed) << bad.text;
    EXPECT_THAT(parsed.error().message(), HasSubstr(bad.reason));
    EXPECT_THAT(parsed.error().message(), HasSubstr("the file"));
    EXPECT_EQ(parsed.error().message().find('\n'), std::string::npos);
  }
}

TEST(SafetensorsFile, ReadsBytesOfTensors) {
  const Scratch scratch;
  const std::vector<float> values{1, -0.0f, 3.5f, 4};
  write_safetensors(scratch / "x", {{"a", {4}, "F32", bytes_of_values(values, "F32")},
                                    {"b", {4}, "BF16", bytes_of_values(values, "BF16")}});
  const auto file = SafetensorsFile::open(scratch / "x");
  ASSERT_TRUE(file) << file.error().message();
  ASSERT_EQ(file->tensors().size(), 2u);
  for (const SafeTensor& tensor : file->tensors()) {
    const std::uint64_t bytes = safetensors_dtype_bytes(tensor.dtype);
    std::vector<std::byte> part(2 * bytes);
    ASSERT_TRUE(file->read(tensor, bytes, part));
    float decoded[2];
    decode_values(tensor.dtype, part.data(), 2, decoded);
    EXPECT_TRUE(std::signbit(decoded[0]) && decoded[0] == 0);
    EXPECT_EQ(decoded[1], 3.5f);
  }
}

TEST(SafetensorsFile, AHeadThatTheFileCannotHoldIsRefused) {
  const Scratch scratch;
  const auto refused = [&](const std::string& bytes, const std::string& reason) {
    write_bytes(scratch / "x", bytes);
    const auto file = SafetensorsFile::open(scratch / "x");
    ASSERT_FALSE(file);
    EXPECT_THAT(file.error().message(), HasSubstr(reason));
  };
  const std::string header = R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})";
  refused("", "too short");
  refused("1234567", "too short");
  refused(std::string(7, '\0') + "\x7f", "its header would have 9151314442816847872 bytes");
  refused(std::string(8, '\xff') + "{}", "its header would have 18446744073709551615 bytes");
  refused(raw_file(header, "123"), "out of the file");
  refused(raw_file(header, "12345"), "belong to no tensor");
  refused(raw_file(header, "1234").substr(0, 30), "its header would have");
  std::filesystem::create_directory(scratch / "folder");
  EXPECT_THAT(SafetensorsFile::open(scratch / "folder").error().message(),
              HasSubstr("no regular file"));
  EXPECT_EQ(SafetensorsFile::open(scratch / "none").error().kind, ErrorKind::kNotFound);
}

TEST(SafetensorsFile, AHeaderBeyondTheFormatsLimitIsNotRead) {
  const Scratch scratch;
  std::string head(8, '\0');
  const std::uint64_t length = 100'000'001;
  std::memcpy(head.data(), &length, sizeof(length));
  write_bytes(scratch / "x", head);
  std::filesystem::resize_file(scratch / "x", 8 + length);  // a hole
  const auto file = SafetensorsFile::open(scratch / "x");
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message(), HasSubstr("its header would have 100000001 bytes"));
}

TEST(SafetensorsFile, AFileThatIsCutMeanwhileIsNoticed) {
  const Scratch scratch;
  write_safetensors(scratch / "x", {{"a", {4}, "F32", std::string(16, 'x')}});
  const auto file = SafetensorsFile::open(scratch / "x");
  ASSERT_TRUE(file);
  std::filesystem::resize_file(scratch / "x", std::filesystem::file_size(scratch / "x") - 1);
  std::vector<std::byte> bytes(16);
  const auto read = file->read(file->tensors()[0], 0, bytes);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kShortTransfer);
}

TEST(DecodeValues, NothingIsDecodedToNothing) {
  for (const char* dtype : {"F32", "BF16", "F16"}) decode_values(dtype, nullptr, 0, nullptr);
}

// sign x 2^(exponent - 15) x 1.fraction; exponent 0: denormal; 31: infinity or NaN.
TEST(DecodeValues, EveryHalfIsItsFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto word = static_cast<std::uint16_t>(bits);
    float decoded = 0;
    decode_values("F16", reinterpret_cast<const std::byte*>(&word), 1, &decoded);
    const int exponent = word >> 10 & 0x1f, fraction = word & 0x3ff;
    ASSERT_EQ(std::signbit(decoded), (word & 0x8000) != 0) << bits;
    if (exponent == 31) {
      ASSERT_EQ(std::isinf(decoded), fraction == 0) << bits;
      ASSERT_EQ(std::isnan(decoded), fraction != 0) << bits;
      continue;
    }
    const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                          : std::ldexp(1024.0f + fraction, exponent - 25);
    ASSERT_EQ(std::fabs(decoded), magnitude) << bits;
  }
}

}  // namespace
}  // namespace spillway::trainer::testing
