// JsonDocument: a JSON object with the line and column of every key in it.
//
// kInvalid with their place: syntax errors, keys given twice (JSON parsers let them pass and take
// the last one), values nested too deeply. Blocks while the file is read.
#pragma once

#include <spillway/aio/error.h>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "trainer/config/json_value.h"

namespace spillway::trainer {

// Returns the value as JSON on one line; with `indent` >= 0, one line for each member and item.
// Replaces bytes that are no UTF-8, which a command line or a hostile file may hold.
std::string text_of(const JsonValue& value, int indent = -1);

// Returns the value of a text without places, or nothing if the text is not one JSON value. Takes
// the last of equal keys.
std::optional<JsonValue> parse_json(std::string_view text);

// Returns the bytes of a file. Errors: those of the system, and kInvalid if it has more than 16
// MiB. Blocks.
Result<std::string> read_json_text(const std::filesystem::path& path);

class JsonDocument {
 public:
  // An empty object, with no places.
  JsonDocument() : root_(JsonValue::object()) {}
  static Result<JsonDocument> read(const std::filesystem::path& path);
  // Errors call the text `name`.
  static Result<JsonDocument> parse(std::string_view text, const std::string& name);

  const JsonValue& root() const noexcept { return root_; }
  // Returns "line 3, column 5" of the key with this dotted path; "" if the text has no such key.
  std::string place(const std::string& dotted_path) const;

 private:
  JsonValue root_;
  std::map<std::string, std::string> places_;
};

}  // namespace spillway::trainer
