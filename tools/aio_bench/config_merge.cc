#include "config_merge.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>

#include "atomic_file.h"
#include "thread_knob.h"

namespace spillway::aio_bench {
namespace {

using nlohmann::ordered_json;

constexpr const char* kSpaces = " \t\r\n";

// A key and its value in the text of an object, as offsets.
struct Member {
  std::string key;
  std::size_t key_begin = 0;
  std::size_t value_begin = 0;
  std::size_t value_end = 0;
};

// Finds the members of a text that is known to be a JSON object.
class ObjectText {
 public:
  explicit ObjectText(const std::string& text) : text_(text) {
    at_ = text_.find('{') + 1;  // what stands before is blank, or a byte order mark
    for (skip_spaces(); text_[at_] != '}'; skip_spaces()) {
      if (text_[at_] == ',') {
        ++at_;
        continue;
      }
      Member member;
      member.key_begin = at_;
      skip_string();
      member.key = ordered_json::parse(text_.substr(member.key_begin, at_ - member.key_begin))
                       .get<std::string>();
      at_ = text_.find(':', at_) + 1;
      skip_spaces();
      member.value_begin = at_;
      skip_value();
      member.value_end = at_;
      members_.push_back(std::move(member));
    }
  }

  const std::vector<Member>& members() const { return members_; }
  std::size_t closing_brace() const { return at_; }

  // The blanks before the first key, from the start of its line; empty when the text is one line.
  std::optional<std::string> indent() const {
    if (members_.empty()) return "  ";
    const std::size_t first = members_.front().key_begin;
    const std::size_t line = text_.rfind('\n', first);
    if (line == std::string::npos) return std::nullopt;
    const std::string before = text_.substr(line + 1, first - line - 1);
    if (before.find_first_not_of(" \t") != std::string::npos) return std::nullopt;
    return before;
  }
  std::string line_end() const {
    const std::size_t line = text_.find('\n');
    return line != std::string::npos && line > 0 && text_[line - 1] == '\r' ? "\r\n" : "\n";
  }

 private:
  void skip_spaces() { at_ = text_.find_first_not_of(kSpaces, at_); }
  void skip_string() {
    for (++at_; text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
  }
  void skip_value() {
    if (text_[at_] == '"') return skip_string();
    if (text_[at_] != '{' && text_[at_] != '[') {
      at_ = text_.find_first_of(" \t\r\n,}]", at_);
      return;
    }
    int open = 0;
    do {
      if (text_[at_] == '"') {
        skip_string();
        continue;
      }
      if (text_[at_] == '{' || text_[at_] == '[') ++open;
      if (text_[at_] == '}' || text_[at_] == ']') --open;
      ++at_;
    } while (open > 0);
  }

  const std::string& text_;
  std::size_t at_ = 0;
  std::vector<Member> members_;
};

// As the surrounding text is written.
std::string rendered(const ordered_json& value, const ObjectText& object) {
  const auto indent = object.indent();
  if (!indent) return value.dump();
  const bool tabs = indent->starts_with('\t');
  const int width = std::max(static_cast<int>(indent->size()), 1);
  const std::string plain = value.dump(width, tabs ? '\t' : ' ');
  std::string text;
  for (const char c : plain) {
    if (c == '\n') {
      text += object.line_end() + *indent;
    } else {
      text += c;
    }
  }
  return text;
}

// The block of the file with the measured values in it.
ordered_json merged_block(const ordered_json& old, const ordered_json& aio,
                          std::vector<std::string>& notes) {
  ordered_json block = old;
  for (const std::string older : kOlderThreadKnobs) {
    if (block.erase(older) == 0) continue;
    notes.push_back("aio." + older + " is now aio." + kThreadKnob + ", its canonical name");
  }
  for (const auto& [key, value] : old.items()) {
    if (value != "true" && value != "false") continue;
    block[key] = value == "true";
    notes.push_back("aio." + key + ": written without quotes now");
  }
  for (const auto& [key, value] : aio.items()) block[key] = value;
  return block;
}

tl::unexpected<Error> broken(const std::string& name, const std::string& what) {
  return make_error(ErrorKind::kInvalid, "read configuration", name, what);
}

// Why it is no JSON object: "parse error at line 3, column 1: ..." without the parser's own prefix.
std::string parse_problem(const std::string& text) {
  try {
    if (!ordered_json::parse(text).is_object()) return "it is no JSON object";
  } catch (const nlohmann::json::parse_error& error) {
    const std::string what = error.what();
    return what.substr(what.find("] ") + 2);
  }
  return "";
}

Result<std::string> text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad()) return errno_error("read configuration", path.string(), errno);
  return text.str();
}

// The text to write: merged, or new where there is no file.
Result<MergedConfig> merged_text(const std::filesystem::path& path, const ordered_json& aio) {
  if (auto possible = can_replace(path); !possible) return tl::unexpected(possible.error());
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) {
    return MergedConfig{.text = ordered_json{{"aio", aio}}.dump(2) + "\n", .notes = {}};
  }
  auto text = text_of(path);
  if (!text) return tl::unexpected(text.error());
  return merge_aio(*text, path.string(), aio);
}

}  // namespace

Result<MergedConfig> merge_aio(const std::string& text, const std::string& name,
                               const ordered_json& aio) {
  const ordered_json root = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return broken(name, parse_problem(text));
  const ObjectText object(text);
  const auto is_aio = [](const Member& member) { return member.key == "aio"; };
  const auto count = std::ranges::count_if(object.members(), is_aio);
  if (count > 1) return broken(name, "\"aio\" is there twice");
  MergedConfig merged;
  if (root.contains("zero_optimization") && root["zero_optimization"].is_object() &&
      root["zero_optimization"].contains("aio")) {
    merged.notes.push_back(
        "zero_optimization.aio is left as it is: remove it, \"aio\" has the "
        "measured values");
  }
  if (count == 1) {
    const Member& member = *std::ranges::find_if(object.members(), is_aio);
    const ordered_json old = root["aio"].is_null() ? ordered_json::object() : root["aio"];
    if (!old.is_object()) return broken(name, "\"aio\" is no object {...}");
    const ordered_json block = merged_block(old, aio, merged.notes);
    merged.text = text.substr(0, member.value_begin) + rendered(block, object) +
                  text.substr(member.value_end);
    return merged;
  }
  const auto& members = object.members();
  const std::string gap = object.indent() ? object.line_end() + *object.indent() : " ";
  const std::string added = gap + "\"aio\": " + rendered(aio, object);
  if (members.empty()) {
    merged.text = text.substr(0, text.find('{') + 1) + added + object.line_end() +
                  text.substr(object.closing_brace());
  } else {
    const std::size_t end = members.back().value_end;
    merged.text = text.substr(0, end) + "," + added + text.substr(end);
  }
  return merged;
}

Result<std::vector<std::string>> write_config(const std::filesystem::path& path,
                                              const ordered_json& aio) {
  auto merged = merged_text(path, aio);
  if (!merged) return tl::unexpected(merged.error());
  if (auto done = replace_file(path, merged->text); !done) return tl::unexpected(done.error());
  return merged->notes;
}

Result<void> can_write_config(const std::filesystem::path& path) {
  auto merged = merged_text(path, ordered_json::object());
  if (!merged) return tl::unexpected(merged.error());
  return {};
}

}  // namespace spillway::aio_bench
