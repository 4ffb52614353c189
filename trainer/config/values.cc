#include <algorithm>
#include <cctype>
#include <cmath>

#include "trainer/base/nearest_name.h"
#include "trainer/config/json_document.h"
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

// Integers up to here are exact in the double that 5e8 is read as.
constexpr double kLargestInteger = 9007199254740992.0;  // 2^53

std::string expected_type(const KeyRule& rule) {
  switch (rule.type) {
    case ValueType::kBool:
      return "true or false";
    case ValueType::kInteger:
      return "a whole number";
    case ValueType::kNumber:
      return "a number";
    case ValueType::kNumberPair:
      return "a list of two numbers";
    case ValueType::kString:
      return "a string";
  }
  return "a value";
}

// "'x' is none of a b c, did you mean 'c'?"
std::string none_of(const std::string& text, const std::vector<std::string>& names) {
  std::string problem = "'" + text + "' is none of";
  for (const std::string& name : names) problem += " " + name;
  const std::string nearest = nearest_name(text, names);
  return nearest.empty() ? problem : problem + ", did you mean '" + nearest + "'?";
}

// Returns the name that equals `text` without regard to case; "" if none does.
std::string same_name(const std::string& text, const std::vector<std::string>& names) {
  const auto lower = [](std::string name) {
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return name;
  };
  for (const std::string& name : names) {
    if (lower(name) == lower(text)) return name;
  }
  return {};
}

std::string out_of_range(const KeyRule& rule, double number) {
  const bool above = rule.below_maximum ? number >= rule.maximum : number > rule.maximum;
  if (number >= rule.minimum && !above) return {};
  const std::string low = number_text(rule.minimum);
  if (std::isinf(rule.maximum)) return number_text(number) + " is below " + low;
  return number_text(number) + " is not in [" + low + ", " + number_text(rule.maximum) +
         (rule.below_maximum ? ")" : "]");
}

void read_integer(const KeyRule& rule, const JsonValue& json, ReadValue& read) {
  const double number = json.number();
  if (number != std::floor(number) || std::abs(number) > kLargestInteger) {
    read.problem = "a whole number is expected, found " + text_of(json);
    return;
  }
  const auto integer = static_cast<std::uint64_t>(static_cast<std::int64_t>(number));
  if (number > 0 && integer % rule.multiple_of != 0) {
    read.problem = std::to_string(integer) + " is not a multiple of " +
                   std::to_string(rule.multiple_of) +
                   (rule.note.empty() ? "" : " (" + rule.note + ")");
    return;
  }
  read.problem = out_of_range(rule, number);
  if (!read.problem.empty()) return;
  read.value = KeyValue{.integer = integer, .number = number};
}

void read_bool(const JsonValue& json, ReadValue& read) {
  if (json.is_bool()) {
    read.value = KeyValue{.boolean = json.boolean()};
  } else if (json == "true" || json == "false") {
    read.value = KeyValue{.boolean = json == "true"};
    read.warning = "write " + json.string() + " without quotes";
  }
}

void read_pair(const KeyRule& rule, const JsonValue& json, ReadValue& read) {
  if (!json.is_array() || json.items().size() != 2) return;
  const JsonValue& one = json.items()[0];
  const JsonValue& two = json.items()[1];
  if (!one.is_number() || !two.is_number()) return;
  const double first = one.number();
  const double second = two.number();
  read.problem = out_of_range(rule, first);
  if (read.problem.empty()) read.problem = out_of_range(rule, second);
  if (read.problem.empty()) read.value = KeyValue{.number = first, .second = second};
}

void read_string(const KeyRule& rule, const JsonValue& json, ReadValue& read) {
  const std::string& text = json.string();
  if (rule.choices.empty() || std::ranges::find(rule.choices, text) != rule.choices.end()) {
    read.value = KeyValue{.text = text};
  } else {
    read.problem = none_of(text, rule.choices);
  }
}

}  // namespace

std::string number_text(double number) {
  if (number == std::floor(number) && std::abs(number) < 1e15) {
    return std::to_string(static_cast<std::int64_t>(number));
  }
  return text_of(number);
}

std::string plain_text(const JsonValue& value) {
  if (value.is_string()) return value.string();
  if (value.is_number() && !value.is_unsigned()) return number_text(value.number());
  if (!value.is_array()) return text_of(value);
  std::string items;
  for (const JsonValue& item : value.items()) {
    items += (items.empty() ? "" : ", ") + plain_text(item);
  }
  return "[" + items + "]";
}

std::string TypeNames::written(const Draft& draft) const {
  const KeyValue* type = draft.given(section + ".type");
  return type == nullptr ? standard : type->text;
}

std::string TypeNames::find(const std::string& written) const { return same_name(written, built); }

bool TypeNames::check(const Draft& draft, Problems& problems) const {
  const std::string type = written(draft);
  if (type == standard || !find(type).empty()) return true;
  const std::string other = same_name(type, unbuilt);
  problems.push_back(
      section + ".type: " +
      (other.empty() ? none_of(type, built) : other + " would change results and is not built"));
  return false;
}

ReadValue read_value(const KeyRule& rule, const JsonValue& json) {
  ReadValue read;
  if (json == "auto" && rule.may_be_auto) {
    read.is_auto = true;
    return read;
  }
  if (json.is_null() && rule.may_be_null) return read;
  switch (rule.type) {
    case ValueType::kBool:
      read_bool(json, read);
      break;
    case ValueType::kInteger:
      if (json.is_number()) read_integer(rule, json, read);
      break;
    case ValueType::kNumber:
      if (json.is_number()) {
        read.problem = out_of_range(rule, json.number());
        if (read.problem.empty()) read.value = KeyValue{.number = json.number()};
      }
      break;
    case ValueType::kNumberPair:
      read_pair(rule, json, read);
      break;
    case ValueType::kString:
      if (json.is_string()) read_string(rule, json, read);
      break;
  }
  if (!read.value && read.problem.empty()) {
    read.problem = expected_type(rule) + " is expected, found " + text_of(json);
  }
  return read;
}

}  // namespace spillway::trainer
