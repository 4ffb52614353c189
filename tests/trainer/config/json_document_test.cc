#include "trainer/config/json_document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <vector>

namespace spillway::trainer {
namespace {

using ::testing::HasSubstr;

std::string problem(std::string_view text) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "text");
  return document ? "accepted" : document.error().detail;
}

std::string nested(std::size_t levels) {
  return R"({"a": )" + std::string(levels - 1, '[') + std::string(levels - 1, ']') + "}";
}

TEST(JsonValueTest, KnowsWhatItHolds) {
  EXPECT_TRUE(JsonValue().is_null());
  EXPECT_TRUE(JsonValue(true).boolean());
  EXPECT_EQ(JsonValue(3).unsigned_number(), 3u);
  EXPECT_FALSE(JsonValue(-3).is_unsigned());
  EXPECT_EQ(JsonValue(-3).number(), -3.0);
  EXPECT_EQ(JsonValue(~std::uint64_t{0}).unsigned_number(), ~std::uint64_t{0});
  EXPECT_FALSE(JsonValue(3.0).is_unsigned());
  EXPECT_EQ(JsonValue("x").string(), "x");
  const JsonValue list = JsonValue::array_of(std::vector<int>{1, 2});
  ASSERT_EQ(list.items().size(), 2u);
  EXPECT_EQ(list.items()[1].number(), 2.0);
  EXPECT_EQ(list.find("a"), nullptr);
}

TEST(JsonValueTest, ObjectsKeepTheirOrderAndOneValueAName) {
  JsonValue object = JsonValue::object({{"b", 1}, {"a", nullptr}});
  object.set("c", 2);
  object.set("a", "x");
  EXPECT_EQ(text_of(object), R"({"b":1,"a":"x","c":2})");
  EXPECT_EQ(*object.find("a"), JsonValue("x"));
  EXPECT_EQ(object.find("d"), nullptr);
}

TEST(JsonValueTest, NumbersAreEqualByValue) {
  EXPECT_EQ(JsonValue(1), JsonValue(1.0));
  EXPECT_EQ(JsonValue(-1), JsonValue(-1.0));
  EXPECT_FALSE(JsonValue(-1) == JsonValue(~std::uint64_t{0}));
  EXPECT_FALSE(JsonValue(1) == JsonValue(true));
  EXPECT_FALSE(JsonValue(1) == JsonValue("1"));
  // Neighbours that one double stands for.
  EXPECT_FALSE(JsonValue(9007199254740993u) == JsonValue(9007199254740992u));
}

TEST(JsonValueTest, TextComesBackAsItWas) {
  for (const char* text :
       {"null", "true", "-7", "18446744073709551615", "0.1", "1e-08", R"("a\n\"é")", "[]", "{}",
        R"([1,[2.5,{"a":null}]])", R"({"z":[],"a":{"b":false}})"}) {
    const std::optional<JsonValue> value = parse_json(text);
    ASSERT_TRUE(value) << text;
    EXPECT_EQ(text_of(*value), text);
  }
  EXPECT_EQ(text_of(*parse_json(R"({"a": [1]})"), 1), "{\n \"a\": [\n  1\n ]\n}");
  EXPECT_EQ(text_of(std::string("\xff")), "\"\xef\xbf\xbd\"");
}

TEST(JsonValueTest, OnlyOneWholeValueIsJson) {
  for (const char* text : {"", "NaN", "Infinity", "01", "+1", ".5", "1e999", "'a'", "[1,]", "1 2",
                           "{\"a\" 1}", "\"\xff\"", "tru", "// 1"}) {
    EXPECT_FALSE(parse_json(text)) << text;
  }
  EXPECT_EQ(text_of(*parse_json(R"({"a":1,"a":2})")), R"({"a":2})");
}

TEST(JsonDocumentTest, PlacesEveryKeyOutsideArrays) {
  const Result<JsonDocument> document =
      JsonDocument::parse("{\"a\": {\n  \"b\": [{\"c\": 1}, {\"c\": 2}]}}", "text");
  ASSERT_TRUE(document) << document.error().detail;
  EXPECT_EQ(document->place("a"), "line 1, column 2");
  EXPECT_EQ(document->place("a.b"), "line 2, column 3");
  EXPECT_EQ(document->place("a.b.c"), "");
  EXPECT_EQ(text_of(document->root()), R"({"a":{"b":[{"c":1},{"c":2}]}})");
}

// Whoever walks, copies or prints a value does so by recursion.
TEST(JsonDocumentTest, DeepNestingIsRefusedWhereItBegins) {
  EXPECT_EQ(problem(nested(100)), "accepted");
  EXPECT_EQ(problem(nested(101)), "line 1, column 106: more than 100 levels of nesting");
  EXPECT_THAT(problem(nested(1'000'000)), HasSubstr("more than 100 levels"));
  EXPECT_FALSE(parse_json(std::string(1'000'000, '[')));
  std::string objects;
  for (int i = 0; i < 101; ++i) objects += "{\"a\":";
  EXPECT_THAT(problem(objects), HasSubstr("more than 100 levels"));
}

}  // namespace
}  // namespace spillway::trainer
