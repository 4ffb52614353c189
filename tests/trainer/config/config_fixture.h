// Loads configurations written as text in a test.
#pragma once

#include <gtest/gtest.h>
#include <spillway/trainer/config.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace spillway::trainer {

class ConfigFixture : public ::testing::Test {
 protected:
  // Writes `json` to a file of this test's own, and loads it with the other members of `input`.
  Result<ConfigResult> load(const std::string& json, ConfigInput input = {}) {
    input.file = std::filesystem::path(::testing::TempDir()) /
                 (std::string("spillway_config_") +
                  ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json");
    std::ofstream(input.file) << json;
    Result<ConfigResult> result = load_config(input);
    std::filesystem::remove(input.file);
    return result;
  }
  // Returns the configuration. If it is refused, the test fails and gets the defaults.
  Config config(const std::string& json, ConfigInput input = {}) {
    Result<ConfigResult> result = load(json, input);
    EXPECT_TRUE(result) << (result ? "" : result.error().detail);
    return result ? result->config : Config();
  }
  // Returns the error, or "accepted".
  std::string problem(const std::string& json, ConfigInput input = {}) {
    const Result<ConfigResult> result = load(json, input);
    return result ? "accepted" : result.error().detail;
  }
  // Returns "fate: note" of a key.
  std::string report(const std::string& json, const std::string& key, ConfigInput input = {}) {
    const Result<ConfigResult> result = load(json, input);
    if (!result) return result.error().detail;
    for (const KeyReport& one : result->keys) {
      if (one.key == key) return fate_name(one.fate) + ": " + one.note;
    }
    return "not reported";
  }
  static std::string fate_name(KeyFate fate) {
    switch (fate) {
      case KeyFate::kUsed:
        return "used";
      case KeyFate::kResolved:
        return "resolved";
      case KeyFate::kDeprecated:
        return "deprecated";
      case KeyFate::kNoEffect:
        return "no effect";
    }
    return "?";
  }
};

// {"a": {"b": value}} for "a.b".
inline std::string nested(const std::string& key, const std::string& value) {
  const std::size_t dot = key.find('.');
  if (dot == std::string::npos) return "{\"" + key + "\": " + value + "}";
  return "{\"" + key.substr(0, dot) + "\": " + nested(key.substr(dot + 1), value) + "}";
}

}  // namespace spillway::trainer
