#include "trainer/config/json_value.h"

#include <spillway/aio/check.h>
#include <algorithm>
#include <array>

namespace spillway::trainer {
namespace {

template <typename T>
const T& checked(const T* value) {
  SPILLWAY_CHECK(value != nullptr, "the JSON value has another type");
  return *value;
}

}  // namespace

JsonValue::JsonValue(Data data) : data_(std::move(data)) {}
JsonValue::JsonValue(std::nullptr_t) {}
JsonValue::JsonValue(bool value) : data_(value) {}
JsonValue::JsonValue(std::string value) : data_(std::move(value)) {}
JsonValue::JsonValue(std::string_view value) : data_(std::string(value)) {}
JsonValue::JsonValue(const char* value) : data_(std::string(value)) {}
JsonValue::JsonValue(const JsonValue& other) = default;
JsonValue::JsonValue(JsonValue&& other) noexcept = default;
JsonValue& JsonValue::operator=(const JsonValue& other) = default;
JsonValue& JsonValue::operator=(JsonValue&& other) noexcept = default;
JsonValue::~JsonValue() = default;

JsonValue JsonValue::array(Items items) { return JsonValue(Data(std::move(items))); }
JsonValue JsonValue::array() { return array(Items()); }
JsonValue JsonValue::object(Members members) { return JsonValue(Data(std::move(members))); }
JsonValue JsonValue::object() { return object(Members()); }

bool JsonValue::is_number() const noexcept {
  return is_unsigned() || std::holds_alternative<std::int64_t>(data_) ||
         std::holds_alternative<double>(data_);
}

const char* JsonValue::type_name() const noexcept {
  static constexpr std::array kNames{"null",   "boolean", "number", "number",
                                     "number", "string",  "array",  "object"};
  return kNames[data_.index()];
}

bool JsonValue::boolean() const { return checked(std::get_if<bool>(&data_)); }

double JsonValue::number() const {
  if (const auto* below_zero = std::get_if<std::int64_t>(&data_)) {
    return static_cast<double>(*below_zero);
  }
  return is_unsigned() ? static_cast<double>(unsigned_number())
                       : checked(std::get_if<double>(&data_));
}

std::uint64_t JsonValue::unsigned_number() const {
  return checked(std::get_if<std::uint64_t>(&data_));
}

const std::string& JsonValue::string() const { return checked(std::get_if<std::string>(&data_)); }

const JsonValue::Items& JsonValue::items() const { return checked(std::get_if<Items>(&data_)); }

const JsonValue::Members& JsonValue::members() const {
  return checked(std::get_if<Members>(&data_));
}

const JsonValue* JsonValue::find(std::string_view name) const {
  const auto* members = std::get_if<Members>(&data_);
  if (members == nullptr) return nullptr;
  const auto found = std::ranges::find(*members, name, &JsonMember::name);
  return found == members->end() ? nullptr : &found->value;
}

JsonValue& JsonValue::set(std::string_view name, JsonValue value) {
  auto* members = std::get_if<Members>(&data_);
  SPILLWAY_CHECK(members != nullptr, "only objects have members");
  auto found = std::ranges::find(*members, name, &JsonMember::name);
  if (found == members->end()) found = members->insert(found, {std::string(name), nullptr});
  return found->value = std::move(value);
}

JsonValue& JsonValue::append(JsonValue item) {
  auto* items = std::get_if<Items>(&data_);
  SPILLWAY_CHECK(items != nullptr, "only arrays have items");
  return items->emplace_back(std::move(item));
}

bool operator==(const JsonValue& a, const JsonValue& b) {
  if (a.is_number() && b.is_number() && a.data_.index() != b.data_.index()) {
    return a.number() == b.number();
  }
  return a.data_ == b.data_;
}

bool operator==(const JsonMember& a, const JsonMember& b) {
  return a.name == b.name && a.value == b.value;
}

}  // namespace spillway::trainer
