#include "trainer/config/json_document.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <vector>

namespace spillway::trainer {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMostBytes = std::size_t{16} << 20;

std::string place_at(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::ranges::count(before, '\n');
  // Columns count characters, as editors do: not the bytes that continue one in UTF-8.
  const std::string_view in_line = before.substr(before.rfind('\n') + 1);
  const auto column = 1 + std::ranges::count_if(in_line, [](char c) { return (c & 0xc0) != 0x80; });
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// Returns where the string begins that ends with the quote at `closing`: at the last quote before
// it that is not escaped.
std::size_t opening_quote(std::string_view text, std::size_t closing) {
  std::size_t at = closing;
  do {
    at = text.rfind('"', at - 1);
  } while (at > 0 && text[at - 1] == '\\');
  return at;
}

// Reads characters and tells how many were read: the parser's events carry no position, but when
// it reports a key, the lexer has just read that key's closing quote and nothing more.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* position, std::size_t* count) : position_(position), count_(count) {}
  reference operator*() const { return *position_; }
  CountingIterator& operator++() {
    ++position_;
    ++*count_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return position_ == other.position_; }

 private:
  const char* position_;
  std::size_t* count_;
};

// Builds the value of what the parser reports (nlohmann's SAX interface). Stops at values nested
// so deeply that a recursive function could exhaust the stack.
class ValueBuilder {
 public:
  static constexpr std::size_t kMostNested = 100;
  using number_integer_t = ordered_json::number_integer_t;
  using number_unsigned_t = ordered_json::number_unsigned_t;
  using number_float_t = ordered_json::number_float_t;
  using string_t = ordered_json::string_t;
  using binary_t = ordered_json::binary_t;

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(number_integer_t value) { return add(value); }
  bool number_unsigned(number_unsigned_t value) { return add(value); }
  bool number_float(number_float_t value, const string_t&) { return add(value); }
  bool string(string_t& value) { return add(std::move(value)); }
  bool binary(binary_t&) { return false; }  // of other formats than JSON's text
  bool start_object(std::size_t) { return open(JsonValue::object()); }
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(JsonValue::array()); }
  bool end_array() { return close(); }
  bool key(string_t& name) {
    key_ = name;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const ordered_json::exception&) {
    return false;
  }

  JsonValue root;

 private:
  JsonValue& placed(JsonValue value) {
    if (open_.empty()) return root = std::move(value);
    JsonValue& outer = *open_.back();
    return outer.is_array() ? outer.append(std::move(value)) : outer.set(key_, std::move(value));
  }
  bool add(JsonValue value) {
    placed(std::move(value));
    return true;
  }
  bool open(JsonValue value) {
    if (open_.size() == kMostNested) return false;
    open_.push_back(&placed(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<JsonValue*> open_;  // the outermost first; only the last one grows
  std::string key_;
};

// Notes where each key starts, besides.
class PlaceRecorder : public ValueBuilder {
 public:
  PlaceRecorder(std::string_view text, const std::size_t* count) : text_(text), count_(count) {}

  bool start_object(std::size_t size) {
    path_.emplace_back();
    return ValueBuilder::start_object(size) || too_deep();
  }
  bool end_object() {
    path_.pop_back();
    return ValueBuilder::end_object();
  }
  bool start_array(std::size_t size) {
    ++array_depth_;
    return ValueBuilder::start_array(size) || too_deep();
  }
  bool end_array() {
    --array_depth_;
    return ValueBuilder::end_array();
  }
  bool key(string_t& name) {
    ValueBuilder::key(name);
    path_.back() = name;
    if (array_depth_ > 0) return true;  // no configuration key lies inside an array
    std::string dotted;
    for (const std::string& part : path_) dotted += (dotted.empty() ? "" : ".") + part;
    const std::string place = place_at(text_, opening_quote(text_, *count_ - 1));
    const auto [first, inserted] = places.emplace(dotted, place);
    if (!inserted && problem.empty()) {
      problem = place + ": key '" + dotted + "' is given twice, first at " + first->second;
    }
    return true;
  }
  // `position` counts the characters read; the last of them is where parsing stopped.
  bool parse_error(std::size_t position, const std::string&, const ordered_json::exception& error) {
    const std::size_t offset = std::min(position > 0 ? position - 1 : 0, text_.size());
    const char stopped_at = offset < text_.size() ? text_[offset] : ' ';
    const std::size_t previous = text_.substr(0, offset).find_last_not_of(" \t\r\n");
    if ((stopped_at == '}' || stopped_at == ']') && previous != std::string_view::npos &&
        text_[previous] == ',') {
      problem = place_at(text_, previous) + ": trailing comma before '" + stopped_at + "'";
      return false;
    }
    const std::string what = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..."
    std::size_t reason = what.find("syntax error");
    if (reason == std::string::npos) reason = what.find("] ") + 2;
    problem = place_at(text_, offset) + ": " + what.substr(reason);
    return false;
  }

  std::map<std::string, std::string> places;
  std::string problem;

 private:
  bool too_deep() {
    problem = place_at(text_, *count_ - 1) + ": more than " + std::to_string(kMostNested) +
              " levels of nesting";
    return false;
  }

  std::string_view text_;
  const std::size_t* count_;
  std::vector<std::string> path_;
  int array_depth_ = 0;
};

ordered_json library_value(const JsonValue& value) {
  if (value.is_array()) {
    ordered_json array = ordered_json::array();
    for (const JsonValue& item : value.items()) array.push_back(library_value(item));
    return array;
  }
  if (value.is_object()) {
    ordered_json object = ordered_json::object();
    for (const auto& [name, inner] : value.members()) object[name] = library_value(inner);
    return object;
  }
  return value.visit([](const auto& plain) {
    if constexpr (std::is_constructible_v<ordered_json, decltype(plain)>) {
      return ordered_json(plain);
    } else {
      return ordered_json();
    }
  });
}

}  // namespace

std::string text_of(const JsonValue& value, int indent) {
  return library_value(value).dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

std::optional<JsonValue> parse_json(std::string_view text) {
  ValueBuilder builder;
  if (!ordered_json::sax_parse(text, &builder)) return std::nullopt;
  return std::move(builder.root);
}

Result<JsonDocument> JsonDocument::parse(std::string_view text, const std::string& name) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::size_t count = 0;
  PlaceRecorder recorder(text, &count);
  ordered_json::sax_parse(CountingIterator(text.data(), &count),
                          CountingIterator(text.data() + text.size(), &count), &recorder);
  if (!recorder.problem.empty()) {
    return make_error(ErrorKind::kInvalid, "parse JSON", name, recorder.problem);
  }
  JsonDocument document;
  document.root_ = std::move(recorder.root);
  if (!document.root_.is_object()) {
    return make_error(ErrorKind::kInvalid, "parse JSON", name,
                      std::string("line 1, column 1: expected an object {...}, found a ") +
                          document.root_.type_name());
  }
  document.places_ = std::move(recorder.places);
  return document;
}

Result<std::string> read_json_text(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return errno_error("read", path.string(), EISDIR, "a JSON file is expected");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return errno_error("open", path.string(), errno);
  std::string text;
  std::array<char, 65536> chunk{};
  while (text.size() <= kMostBytes && file) {  // a device may go on for ever
    file.read(chunk.data(), chunk.size());
    text.append(chunk.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) return errno_error("read", path.string(), EIO);
  if (text.size() > kMostBytes) {
    return make_error(ErrorKind::kInvalid, "read", path.string(), "more than 16 MiB");
  }
  return text;
}

Result<JsonDocument> JsonDocument::read(const std::filesystem::path& path) {
  const auto text = read_json_text(path);
  if (!text) return tl::unexpected(text.error());
  return parse(*text, path.string());
}

std::string JsonDocument::place(const std::string& dotted_path) const {
  const auto found = places_.find(dotted_path);
  return found == places_.end() ? std::string() : found->second;
}

}  // namespace spillway::trainer
