// Field: the place in Config that the value of a key goes to. Type and default follow from it.
#pragma once

#include <spillway/trainer/config.h>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "trainer/config/json_value.h"

namespace spillway::trainer {

enum class ValueType { kBool, kInteger, kNumber, kNumberPair, kString };

// The value of a key; its type says which members count, and the others are empty.
struct KeyValue {
  bool operator==(const KeyValue&) const = default;

  bool boolean = false;
  std::uint64_t integer = 0;
  double number = 0.0;
  double second = 0.0;  // of a pair
  std::string text = {};
};

struct Field {
  ValueType type = ValueType::kBool;
  std::function<void(Config&, const KeyValue&)> write = {};
  std::function<JsonValue(const Config&)> read = {};  // null: not set
  std::vector<std::string> choices = {};              // of a string; empty: any
};

// root.*first.*second ..., along the pointers to members `path`.
template <typename Root, typename... Path>
auto& at(Root& root, Path... path) {
  return (root.*....*path);
}

template <typename T>
constexpr ValueType kValueType =
    std::is_same_v<T, bool> || std::is_same_v<T, std::optional<bool>> ? ValueType::kBool
    : std::integral<T>                                                ? ValueType::kInteger
    : std::floating_point<T>                                          ? ValueType::kNumber
                                                                      : ValueType::kString;

// A member of Config, of type bool, optional<bool>, integer, double, string or path:
// member(&Config::seed), member(&Config::aio, &aio::EngineOptions::queue_depth).
template <typename... Path>
Field member(Path... path) {
  using T = std::remove_reference_t<decltype(at(std::declval<Config&>(), path...))>;
  const auto write = [=](Config& config, const KeyValue& value) {
    T& target = at(config, path...);
    if constexpr (kValueType<T> == ValueType::kBool) {
      target = value.boolean;
    } else if constexpr (std::integral<T>) {
      target = static_cast<T>(value.integer);
    } else if constexpr (std::floating_point<T>) {
      target = value.number;
    } else {
      target = value.text;
    }
  };
  const auto read = [=](const Config& config) -> JsonValue {
    const T& source = at(config, path...);
    if constexpr (std::is_arithmetic_v<T>) {
      return source;
    } else if constexpr (kValueType<T> == ValueType::kBool) {
      return source ? JsonValue(*source) : nullptr;
    } else {
      return source.empty() ? nullptr : JsonValue(std::string(source));
    }
  };
  return {.type = kValueType<T>, .write = write, .read = read};
}

// A member of Config whose values have names: choice<Dtype>({{"fp32", Dtype::kFp32}, ...}, path).
template <typename T, typename... Path>
Field choice(const std::vector<std::pair<std::string, T>>& names, Path... path) {
  const auto write = [=](Config& config, const KeyValue& value) {
    for (const auto& [name, meaning] : names) {
      if (name == value.text) at(config, path...) = meaning;
    }
  };
  const auto read = [=](const Config& config) -> JsonValue {
    for (const auto& [name, meaning] : names) {
      if (meaning == at(config, path...)) return name;
    }
    return nullptr;
  };
  Field field{.type = ValueType::kString, .write = write, .read = read};
  for (const auto& [name, meaning] : names) field.choices.push_back(name);
  return field;
}

}  // namespace spillway::trainer
