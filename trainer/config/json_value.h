// JsonValue: one value of JSON, read from a text or to be written.
//
// A plain tree: copies are deep, and members keep their order. Reading and writing text is in
// json_document.h, so that this header and its users do without a JSON library.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace spillway::trainer {

struct JsonMember;

class JsonValue {
 public:
  using Items = std::vector<JsonValue>;
  using Members = std::vector<JsonMember>;

  JsonValue(std::nullptr_t = nullptr);  // null
  JsonValue(bool value);
  JsonValue(std::floating_point auto value) : JsonValue(Data(static_cast<double>(value))) {}
  JsonValue(std::integral auto value)
      : JsonValue(std::cmp_less(value, 0) ? Data(static_cast<std::int64_t>(value))
                                          : Data(static_cast<std::uint64_t>(value))) {}
  JsonValue(std::string value);
  JsonValue(std::string_view value);
  JsonValue(const char* value);
  JsonValue(const JsonValue& other);
  JsonValue(JsonValue&& other) noexcept;
  JsonValue& operator=(const JsonValue& other);
  JsonValue& operator=(JsonValue&& other) noexcept;
  ~JsonValue();
  static JsonValue array(Items items);
  static JsonValue array();
  template <typename Range>
  static JsonValue array_of(const Range& range) {
    return array(Items(range.begin(), range.end()));
  }
  static JsonValue object(Members members);
  static JsonValue object();

  bool is_null() const noexcept { return data_.index() == 0; }
  bool is_bool() const noexcept { return std::holds_alternative<bool>(data_); }
  bool is_number() const noexcept;
  bool is_unsigned() const noexcept { return std::holds_alternative<std::uint64_t>(data_); }
  bool is_string() const noexcept { return std::holds_alternative<std::string>(data_); }
  bool is_array() const noexcept { return std::holds_alternative<Items>(data_); }
  bool is_object() const noexcept { return std::holds_alternative<Members>(data_); }
  // Returns "null", "boolean", "number", "string", "array" or "object".
  const char* type_name() const noexcept;

  // REQUIRES of each: a value of that type; of number, any number.
  bool boolean() const;
  double number() const;
  std::uint64_t unsigned_number() const;  // a whole number >= 0, written without '.' and exponent
  const std::string& string() const;
  const Items& items() const;
  const Members& members() const;

  // Returns the value of the member, or nullptr if there is none or this is not an object.
  const JsonValue* find(std::string_view name) const;
  // Adds a member, or replaces the value of the one with this name. REQUIRES: an object.
  JsonValue& set(std::string_view name, JsonValue value);
  // Adds an item. REQUIRES: an array.
  JsonValue& append(JsonValue item);

  // Calls `visit` with the std::nullptr_t, bool, std::int64_t (below 0), std::uint64_t, double,
  // std::string, Items or Members that this holds.
  template <typename Visitor>
  auto visit(Visitor&& visitor) const {
    return std::visit(std::forward<Visitor>(visitor), data_);
  }

  // Numbers are equal by value: 1 == 1.0. Members are compared in order.
  friend bool operator==(const JsonValue& a, const JsonValue& b);

 private:
  // Destroying one needs JsonMember, which is complete below alone: so most is defined there.
  using Data = std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string,
                            Items, Members>;
  explicit JsonValue(Data data);

  Data data_;
};

struct JsonMember {
  std::string name;
  JsonValue value;
};
bool operator==(const JsonMember& a, const JsonMember& b);

}  // namespace spillway::trainer
