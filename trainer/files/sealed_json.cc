#include "trainer/files/sealed_json.h"

#include <spillway/aio/check.h>
#include "trainer/files/checksum.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

namespace spillway::trainer {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kBeforeDigits = ",\n \"checksum\": \"";
constexpr std::string_view kAfterDigits = "\"\n}\n";
constexpr std::size_t kDigits = 16;
constexpr std::size_t kTailBytes = kDigits + kAfterDigits.size();

bool is_hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

std::optional<std::uint64_t> parse_hex(std::string_view digits) {
  std::uint64_t value = 0;
  if (digits.size() != kDigits || !std::ranges::all_of(digits, is_hex_digit)) return std::nullopt;
  std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return value;
}

std::uint64_t checksum_of_text(std::string_view text) {
  return checksum_of(std::as_bytes(std::span(text.data(), text.size())));
}

bool is_plain_name(const std::string& name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() < 256 && name[0] != '.' && std::ranges::all_of(name, plain);
}

const ordered_json kNoArray = ordered_json::array();
const ordered_json kNoObject = ordered_json::object();

}  // namespace

std::string hex_of(std::uint64_t value) {
  std::string digits(kDigits, '0');
  for (std::size_t i = kDigits; i-- > 0; value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  return digits;
}

std::string seal(const ordered_json& object) {
  SPILLWAY_CHECK(object.is_object() && !object.empty(), "an object is sealed");
  std::string text = object.dump(1, ' ', false, ordered_json::error_handler_t::replace);
  text.resize(text.size() - 2);  // "\n}"
  text += kBeforeDigits;
  return text + hex_of(checksum_of_text(text)) + std::string(kAfterDigits);
}

std::uint64_t seal_of(std::string_view text) {
  const auto digits = text.size() < kTailBytes
                          ? std::nullopt
                          : parse_hex(text.substr(text.size() - kTailBytes, kDigits));
  SPILLWAY_CHECK(digits.has_value(), "the text is sealed");
  return *digits;
}

Result<ordered_json> unseal(std::string_view text, const std::string& name) {
  const auto corrupt = [&](std::string why) {
    return make_error(ErrorKind::kCorrupt, "read checkpoint", name, std::move(why));
  };
  if (text.size() < kTailBytes || !text.ends_with(kAfterDigits)) {
    return corrupt("it does not end with its checksum: cut short, or another kind of file");
  }
  const auto expected = parse_hex(text.substr(text.size() - kTailBytes, kDigits));
  const std::uint64_t found = checksum_of_text(text.substr(0, text.size() - kTailBytes));
  if (expected != found) {
    return corrupt("its bytes have the checksum " + hex_of(found) + ", not that at its end");
  }
  ordered_json object = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return make_error(ErrorKind::kInvalid, "read checkpoint", name, "it is no JSON object");
  }
  return object;
}

const ordered_json* JsonFields::member(const ordered_json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found != object.end()) return &*found;
  refuse(std::string("'") + key + "' is missing");
  return nullptr;
}

std::uint64_t JsonFields::number(const ordered_json& object, const char* key, std::uint64_t most) {
  const ordered_json* value = member(object, key);
  if (value == nullptr) return 0;
  if (value->is_number_unsigned() && value->get<std::uint64_t>() <= most) {
    return value->get<std::uint64_t>();
  }
  refuse(std::string("'") + key + "' must be a whole number of at most " + std::to_string(most));
  return 0;
}

std::uint64_t JsonFields::element(const ordered_json& array, std::size_t index,
                                  std::uint64_t most) {
  if (array.is_array() && index < array.size() && array[index].is_number_unsigned() &&
      array[index].get<std::uint64_t>() <= most) {
    return array[index].get<std::uint64_t>();
  }
  refuse("an array must hold whole numbers of at most " + std::to_string(most));
  return 0;
}

double JsonFields::real(const ordered_json& object, const char* key) {
  const ordered_json* value = member(object, key);
  if (value != nullptr && value->is_number()) return value->get<double>();
  refuse(std::string("'") + key + "' must be a number");
  return 0;
}

bool JsonFields::flag(const ordered_json& object, const char* key) {
  const ordered_json* value = member(object, key);
  if (value != nullptr && value->is_boolean()) return value->get<bool>();
  refuse(std::string("'") + key + "' must be true or false");
  return false;
}

std::string JsonFields::text(const ordered_json& object, const char* key) {
  const ordered_json* value = member(object, key);
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  refuse(std::string("'") + key + "' must be a text");
  return "";
}

std::uint64_t JsonFields::hex(const ordered_json& value) {
  if (value.is_string()) {
    if (const auto number = parse_hex(value.get_ref<const std::string&>())) return *number;
  }
  refuse("a checksum must be 16 hexadecimal digits");
  return 0;
}

std::string JsonFields::file_name(const ordered_json& object, const char* key) {
  std::string name = text(object, key);
  if (!is_plain_name(name)) refuse("'" + name + "' is no plain file name");
  return name;
}

const ordered_json& JsonFields::array(const ordered_json& object, const char* key) {
  const ordered_json* value = member(object, key);
  if (value != nullptr && value->is_array()) return *value;
  refuse(std::string("'") + key + "' must be an array");
  return kNoArray;
}

const ordered_json& JsonFields::object(const ordered_json& object, const char* key) {
  const ordered_json* value = member(object, key);
  if (value != nullptr && value->is_object()) return *value;
  refuse(std::string("'") + key + "' must be an object");
  return kNoObject;
}

std::uint32_t JsonFields::choice(const ordered_json& object, const char* key,
                                 const std::vector<std::string>& names) {
  const std::string value = text(object, key);
  const auto found = std::ranges::find(names, value);
  if (found != names.end()) return static_cast<std::uint32_t>(found - names.begin());
  refuse("'" + value + "' is unknown as '" + key + "'");
  return 0;
}

void JsonFields::refuse(const std::string& problem) {
  if (problem_.empty()) problem_ = problem;
}

Result<void> JsonFields::outcome() const {
  if (good()) return {};
  return make_error(ErrorKind::kInvalid, "read checkpoint", name_, problem_);
}

}  // namespace spillway::trainer
