// docs/configuration.md against the key table: each key stands there once, as it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>

#include "tests/trainer/config/config_fixture.h"
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

using ::testing::HasSubstr;
using DocumentationTest = ConfigFixture;

const std::string& document() {
  static const std::string kText = [] {
    std::ifstream file(SPILLWAY_CONFIGURATION_MD);
    return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }();
  return kText;
}

struct Row {
  std::string standard, key_class, meaning;
};

// Rows "| `key` | `default` | class | meaning |" by key; a key that stands there twice fails.
std::map<std::string, Row> documented_keys() {
  const std::regex row(R"(\| `([^`]+)` \| `([^`]+)` \| ([a-z ]+) \| (.*) \|)");
  std::map<std::string, Row> rows;
  std::istringstream lines(document());
  bool in_table = false;
  for (std::string line; std::getline(lines, line);) {
    if (line == "| key | default | here | meaning |") {
      in_table = std::getline(lines, line).good();
      continue;
    }
    in_table = in_table && line.starts_with("|");
    std::smatch cells;
    if (!in_table) continue;
    EXPECT_TRUE(std::regex_match(line, cells, row)) << line;
    if (cells.empty()) continue;
    const bool is_new = rows.emplace(cells[1], Row{cells[2], cells[3], cells[4]}).second;
    EXPECT_TRUE(is_new) << cells[1] << " stands there twice";
  }
  return rows;
}

const char* name_of(KeyClass key_class) {
  return key_class == KeyClass::kUsed       ? "used"
         : key_class == KeyClass::kNoEffect ? "no effect"
                                            : "refused";
}

TEST_F(DocumentationTest, EveryKeyHasItsRow) {
  const std::map<std::string, Row> rows = documented_keys();
  for (const KeyRule& rule : key_rules()) {
    SCOPED_TRACE(rule.path);
    const auto found = rows.find(rule.path);
    if (found == rows.end()) {
      ADD_FAILURE() << "no row";
      continue;
    }
    EXPECT_EQ(found->second.standard, rule.standard);
    EXPECT_EQ(found->second.key_class, name_of(rule.key_class));
    const std::string& meaning = found->second.meaning;
    if (rule.key_class != KeyClass::kUsed) {
      EXPECT_THAT(meaning, HasSubstr(rule.note));
    }
    for (const std::string& choice : rule.choices) {
      EXPECT_THAT(meaning, HasSubstr("`" + choice + "`"));
    }
    for (const auto* names : {&rule.deprecated_names, &rule.other_names}) {
      for (const std::string& name : *names) EXPECT_THAT(meaning, HasSubstr("`" + name + "`"));
    }
    // Where "auto" is the default, that says it.
    EXPECT_EQ(meaning.find("\"auto\"") != std::string::npos,
              rule.may_be_auto && rule.standard != "\"auto\"");
  }
}

TEST_F(DocumentationTest, EveryRowIsAKey) {
  for (const auto& [key, row] : documented_keys()) {
    EXPECT_NE(find_rule(key), nullptr) << key;
  }
}

// In prose too, and in commands: `section.key` is a key, a section, or a spelling of one.
TEST_F(DocumentationTest, NoOtherKeyIsNamed) {
  const std::regex dotted(R"([`= ]((\w+)(\.\w+)+)(?=[`=]))");
  int named = 0;
  for (std::sregex_iterator i(document().begin(), document().end(), dotted), end; i != end; ++i) {
    const std::string name = (*i)[1];
    if (!is_section(canonical_spelling((*i)[2]).path)) continue;  // a file
    ++named;
    const std::string path = canonical_spelling(name).path;
    EXPECT_TRUE(find_rule(path) != nullptr || is_section(path)) << name;
  }
  EXPECT_GT(named, 120);
}

TEST_F(DocumentationTest, ItsExampleLoads) {
  std::smatch block;
  ASSERT_TRUE(std::regex_search(document(), block, std::regex(R"(```json\n([^`]*)```)")));
  const Config config = this->config(block[1]);
  EXPECT_EQ(config.offload_optimizer.device, OffloadDevice::kNvme);
  EXPECT_EQ(config.optimizer.learning_rate, 1.5e-3);
}

}  // namespace
}  // namespace spillway::trainer
