// What a user may get wrong: every key with every wrong kind of value, files, overrides.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/config.h>
#include <unistd.h>
#include <algorithm>
#include <fstream>

#include "tests/trainer/config/config_fixture.h"
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ConfigFaultsTest = ConfigFixture;

struct TypeCase {
  ValueType type;
  const char* expected;
  std::vector<const char*> wrong;
};
const std::vector<TypeCase>& type_cases() {
  static const std::vector<TypeCase> kCases{
      {ValueType::kBool, "true or false", {"1", "\"yes\"", "[true]", "{\"a\": true}", "\"\""}},
      {ValueType::kInteger, "a whole number", {"1.5", "\"4\"", "true", "[4]", "{}", "1e300"}},
      {ValueType::kNumber, "a number", {"\"1\"", "false", "[1]", "{}"}},
      {ValueType::kNumberPair, "a list of two numbers", {"0.9", "[0.9]", "[0.9, \"x\"]", "{}"}},
      {ValueType::kString, "a string", {"1", "true", "[\"cpu\"]", "{}"}}};
  return kCases;
}

TEST_F(ConfigFaultsTest, EveryKeyRefusesOtherTypesWithTheirPlace) {
  for (const KeyRule& rule : key_rules()) {
    for (const TypeCase& of : type_cases()) {
      if (of.type != rule.type) continue;
      for (const char* wrong : of.wrong) {
        EXPECT_THAT(problem(nested(rule.path, wrong)),
                    AllOf(HasSubstr(rule.path + ": " + of.expected + " is expected, found "),
                          HasSubstr(" (line 1, column ")))
            << wrong;
      }
      if (!rule.may_be_auto && rule.type != ValueType::kString) {
        EXPECT_THAT(problem(nested(rule.path, "\"auto\"")), HasSubstr(of.expected)) << rule.path;
      }
      if (!rule.may_be_null) {
        EXPECT_THAT(problem(nested(rule.path, "null")), HasSubstr(of.expected)) << rule.path;
      }
    }
  }
}

TEST_F(ConfigFaultsTest, EveryNumberHasItsRange) {
  for (const KeyRule& rule : key_rules()) {
    if (rule.type != ValueType::kInteger && rule.type != ValueType::kNumber) continue;
    const std::string below = number_text(rule.minimum - 1);
    EXPECT_THAT(problem(nested(rule.path, below)), HasSubstr(rule.path + ": " + below + " is "))
        << "below";
    if (rule.maximum > 1e18) continue;
    const std::string above = number_text(rule.maximum + static_cast<double>(rule.multiple_of));
    EXPECT_THAT(problem(nested(rule.path, above)),
                HasSubstr(rule.path + ": " + above + " is not in ["))
        << "above";
  }
}

TEST_F(ConfigFaultsTest, EveryMisspeltKeyIsNamed) {
  for (const KeyRule& rule : key_rules()) {
    std::string misspelt = rule.path;
    std::swap(misspelt[misspelt.size() - 1], misspelt[misspelt.size() - 2]);
    if (misspelt == rule.path || find_rule(misspelt) != nullptr) misspelt += "x";
    const std::string name = rule.path.substr(rule.path.rfind('.') + 1);
    EXPECT_THAT(problem(nested(misspelt, rule.standard)),
                HasSubstr(misspelt + ": unknown key, did you mean '" + name + "'?"));
  }
}

TEST_F(ConfigFaultsTest, EveryOtherSpellingIsTheSameKey) {
  for (const KeyRule& rule : key_rules()) {
    for (const std::string& name : rule.deprecated_names) {
      EXPECT_THAT(report(nested(name, rule.standard), name),
                  HasSubstr("deprecated: use " + rule.path));
    }
    for (const std::string& name : rule.other_names) {
      EXPECT_EQ(report(nested(name, rule.standard), name),
                report(nested(rule.path, rule.standard), rule.path));
    }
  }
}

TEST_F(ConfigFaultsTest, ADeprecatedKeyYieldsToTheOneThatReplacesIt) {
  const Config config = this->config(R"({"zero_optimization": {"cpu_offload": true,
      "cpu_offload_use_pin_memory": true,
      "offload_optimizer": {"device": "none", "pin_memory": false}}})");
  EXPECT_EQ(config.offload_optimizer.device, OffloadDevice::kNone);
  EXPECT_EQ(config.offload_optimizer.pin_memory, false);
  EXPECT_EQ(config.offload_param.pin_memory, true);
}

TEST_F(ConfigFaultsTest, EveryRefusedKeyIsAcceptedAtItsDefaultOnly) {
  for (const KeyRule& rule : key_rules()) {
    if (rule.key_class != KeyClass::kRefused) continue;
    const std::string other = rule.standard == "true"    ? "false"
                              : rule.standard == "false" ? "true"
                                                         : "7";
    EXPECT_THAT(problem(nested(rule.path, other)),
                HasSubstr(other + " would change results and is not built (" + rule.note + ")"));
  }
}

TEST_F(ConfigFaultsTest, PlacesCountCharactersAsWritten) {
  EXPECT_THAT(problem("\xef\xbb\xbf{\"sede\": 1}"), EndsWith("(line 1, column 2)"));
  EXPECT_EQ(problem("\xef\xbb\xbf{}"), "accepted");
  EXPECT_THAT(problem(R"({"\u0073ede": 1})"), EndsWith("(line 1, column 2)"));
  EXPECT_THAT(problem(R"({"se\"de": 1})"), EndsWith("(line 1, column 2)"));
  EXPECT_THAT(problem(R"({"checkpoint": {"tag_validation": "éé", "x": 1}})"),
              EndsWith("(line 1, column 41)"));
  EXPECT_THAT(problem("{\n\t\"seed\": 1,\r\n  \"sede\": 1}"), EndsWith("(line 3, column 3)"));
}

TEST_F(ConfigFaultsTest, EmptySectionsAreNoKeys) {
  for (const char* json : {R"({"aio": {}})", R"({"aio": null})", R"({"aio": {"tuned": {}}})",
                           R"({"zero_optimization": {"offload_param": {}, "aio": {}}})"}) {
    const Result<ConfigResult> result = load(json);
    ASSERT_TRUE(result) << result.error().detail;
    EXPECT_TRUE(result->keys.empty()) << json;
  }
  EXPECT_THAT(problem(R"({"aio": []})"), HasSubstr("aio: a section {...} is expected, found []"));
  EXPECT_EQ(problem(R"({"": 1})"), ": unknown key (line 1, column 2)");
  EXPECT_EQ(problem(R"({"": {"seed": 1}})"), ": unknown key (line 1, column 2)");
  EXPECT_THAT(problem(R"({"aio": {"tuned": {"": {}}}})"), HasSubstr("aio.tuned.: unknown key"));
}

TEST_F(ConfigFaultsTest, NumbersAreThoseOfJson) {
  for (const char* no_number : {"NaN", "Infinity", "-Infinity", "01", "+1", "0x10", ".5"}) {
    EXPECT_THAT(problem(nested("seed", no_number)), HasSubstr("line 1, column ")) << no_number;
  }
  EXPECT_THAT(problem(nested("gradient_clipping", "1e999")),
              HasSubstr(": number overflow parsing '1e999'"));
  EXPECT_THAT(problem(nested("seed", "18446744073709551616")), HasSubstr("a whole number"));
  EXPECT_EQ(config(nested("seed", "9007199254740992")).seed, 9007199254740992u);
  EXPECT_EQ(config(nested("seed", "5e8")).seed, 500'000'000u);
  EXPECT_THAT(problem(nested("seed", "\"5e8\"")), HasSubstr("found \"5e8\""));
}

// As unsigned 64-bit numbers these products are 0, and a division by it ended the process.
TEST_F(ConfigFaultsTest, ABatchMustFitIntoANumber) {
  EXPECT_EQ(problem(R"({"train_micro_batch_size_per_gpu": 1099511627776,
                        "gradient_accumulation_steps": 1099511627776})"),
            "train_micro_batch_size_per_gpu 1099511627776 x gradient_accumulation_steps "
            "1099511627776 x world size 1 is too large");
  EXPECT_THAT(problem(R"({"train_micro_batch_size_per_gpu": 4503599627370496,
                          "train_batch_size": 8})",
                      {.world_size = 4096}),
              HasSubstr("train_batch_size 8 does not divide by"));
}

TEST_F(ConfigFaultsTest, FilesThatAreNoConfiguration) {
  const auto read = [](const std::filesystem::path& file) {
    const Result<ConfigResult> result = load_config({.file = file});
    EXPECT_FALSE(result) << file;
    return result ? Error() : result.error();
  };
  const std::filesystem::path folder = ::testing::TempDir();
  EXPECT_THAT(read(folder).detail, HasSubstr("a JSON file is expected"));
  EXPECT_EQ(read("/dev/zero").detail, "more than 16 MiB");
  EXPECT_THAT(read("/dev/null").detail, HasSubstr("line 1, column 1"));
  EXPECT_EQ(read(folder / "none.json").kind, ErrorKind::kNotFound);
  const std::filesystem::path locked = folder / "spillway_config_locked.json";
  std::ofstream(locked) << "{}";
  std::filesystem::permissions(locked, std::filesystem::perms::none);
  // For root there is no permission to lack.
  if (::geteuid() != 0 || ::seteuid(65534) == 0) {
    EXPECT_EQ(read(locked).kind, ErrorKind::kPermission);
  }
  (void)!::seteuid(::getuid());
  std::filesystem::remove(locked);
}

TEST_F(ConfigFaultsTest, OverridesAreKeyAndValue) {
  for (const char* no_pair : {"", "=", "=1", "seed", "seed 1"}) {
    EXPECT_EQ(problem("{}", {.overrides = {no_pair}}),
              "override '" + std::string(no_pair) + "': expected key=value");
  }
  for (const char* unknown : {" seed=1", "seed =1", ".seed=1", "seed.=1", "aio..queue_depth=1"}) {
    EXPECT_THAT(problem("{}", {.overrides = {unknown}}), HasSubstr("unknown key")) << unknown;
  }
  EXPECT_THAT(problem("{}", {.overrides = {"seed="}}), HasSubstr("found \"\" (override)"));
  EXPECT_THAT(problem("{}", {.overrides = {"seed=1=2"}}), HasSubstr("found \"1=2\" (override)"));
  EXPECT_THAT(problem("{}", {.overrides = {"seed=NaN"}}), HasSubstr("found \"NaN\" (override)"));
  EXPECT_EQ(config("{}", {.overrides = {"seed= 7 "}}).seed, 7u);
  EXPECT_EQ(config("{}", {.overrides = {"zero_optimization.offload_param.nvme_path=/a=b"}})
                .offload_param.nvme_path,
            "/a=b");
}

}  // namespace
}  // namespace spillway::trainer
