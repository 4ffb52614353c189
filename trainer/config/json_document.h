// JsonDocument: a JSON object with the line and column of every key in it.
//
// Syntax errors and keys given twice (which JSON parsers let pass, the last one winning) are
// kInvalid with their place. Keys keep the text's order. Blocks while the file is read.
#pragma once

#include <spillway/aio/error.h>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace spillway::trainer {

// As JSON, for messages. Bytes that are no UTF-8, as a command line or a hostile file may hold, are
// replaced.
std::string text_of(const nlohmann::ordered_json& value);

class JsonDocument {
 public:
  // An empty object, with no places.
  JsonDocument() : root_(nlohmann::ordered_json::object()) {}
  static Result<JsonDocument> read(const std::filesystem::path& path);
  // `name` is what errors call the text.
  static Result<JsonDocument> parse(std::string_view text, const std::string& name);

  const nlohmann::ordered_json& root() const noexcept { return root_; }
  // "line 3, column 5" of the key with this dotted path; empty when it is not in the text.
  std::string place(const std::string& dotted_path) const;

 private:
  nlohmann::ordered_json root_;
  std::map<std::string, std::string> places_;
};

}  // namespace spillway::trainer
