#include "trainer/config/json_document.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <vector>

namespace spillway::trainer {
namespace {

using nlohmann::ordered_json;

std::string place_at(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t last_break = before.rfind('\n');
  const std::size_t column =
      last_break == std::string_view::npos ? before.size() + 1 : before.size() - last_break;
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
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

// Listens to the parser (nlohmann's SAX interface) and notes where each key starts.
class PlaceRecorder {
 public:
  using number_integer_t = ordered_json::number_integer_t;
  using number_unsigned_t = ordered_json::number_unsigned_t;
  using number_float_t = ordered_json::number_float_t;
  using string_t = ordered_json::string_t;
  using binary_t = ordered_json::binary_t;

  PlaceRecorder(std::string_view text, const std::size_t* count) : text_(text), count_(count) {}

  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool number_integer(number_integer_t) { return true; }
  bool number_unsigned(number_unsigned_t) { return true; }
  bool number_float(number_float_t, const string_t&) { return true; }
  bool string(string_t&) { return true; }
  bool binary(binary_t&) { return true; }
  bool start_object(std::size_t) {
    path_.emplace_back();
    return true;
  }
  bool end_object() {
    path_.pop_back();
    return true;
  }
  bool start_array(std::size_t) {
    ++array_depth_;
    return true;
  }
  bool end_array() {
    --array_depth_;
    return true;
  }
  bool key(string_t& name) {
    path_.back() = name;
    if (array_depth_ > 0) return true;  // no configuration key lies inside an array
    std::string dotted;
    for (const std::string& part : path_) dotted += (dotted.empty() ? "" : ".") + part;
    const std::size_t written = std::min(name.size() + 2, *count_);  // with its quotes
    const std::string place = place_at(text_, *count_ - written);
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
    const std::size_t reason = what.find("syntax error");
    problem =
        place_at(text_, offset) + ": " + (reason == std::string::npos ? what : what.substr(reason));
    return false;
  }

  std::map<std::string, std::string> places;
  std::string problem;

 private:
  std::string_view text_;
  const std::size_t* count_;
  std::vector<std::string> path_;
  int array_depth_ = 0;
};

}  // namespace

std::string text_of(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Result<JsonDocument> JsonDocument::parse(std::string_view text, const std::string& name) {
  std::size_t count = 0;
  PlaceRecorder recorder(text, &count);
  ordered_json::sax_parse(CountingIterator(text.data(), &count),
                          CountingIterator(text.data() + text.size(), &count), &recorder);
  if (!recorder.problem.empty()) {
    return make_error(ErrorKind::kInvalid, "parse JSON", name, recorder.problem);
  }
  JsonDocument document;
  document.root_ = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.root_.is_object()) {
    return make_error(ErrorKind::kInvalid, "parse JSON", name,
                      "line 1, column 1: expected an object {...}, found a " +
                          std::string(document.root_.type_name()));
  }
  document.places_ = std::move(recorder.places);
  return document;
}

Result<JsonDocument> JsonDocument::read(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return errno_error("read", path.string(), EISDIR, "a JSON file is expected");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return errno_error("open", path.string(), errno);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return errno_error("read", path.string(), EIO);
  return parse(text, path.string());
}

std::string JsonDocument::place(const std::string& dotted_path) const {
  const auto found = places_.find(dotted_path);
  return found == places_.end() ? std::string() : found->second;
}

}  // namespace spillway::trainer
