// Structs of the C interface. Their `size` identifies the caller's version of the header.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>

#include "failure.h"

namespace spillway::c {

// The sizeof of Options in the version before its last fields were appended. A program that was
// compiled with that header leaves them at their defaults.
template <typename Options>
inline constexpr std::size_t kEarlierSize = sizeof(Options);
template <>
inline constexpr std::size_t kEarlierSize<spillway_engine_options> =
    offsetof(spillway_engine_options, measure_latency);
template <>
inline constexpr std::size_t kEarlierSize<spillway_store_options> = offsetof(spillway_store_options,
                                                                             locks);

// Reads the fields of `given` that both the caller's version and this one know; fields of later
// versions must be zero. NULL means all defaults, if `may_be_null`.
template <typename Options>
spillway_status read_options(const Options* given, Options* options, const char* operation,
                             bool may_be_null = true) {
  static_assert(std::is_trivially_copyable_v<Options>);
  *options = {};
  if (given == nullptr) {
    if (may_be_null) return SPILLWAY_OK;
    return failed(SPILLWAY_MISUSE, operation, "the options are NULL");
  }
  const std::size_t size = given->size;
  if ((size < sizeof(Options) && size != kEarlierSize<Options>) || size > 4096) {
    return failed(SPILLWAY_MISUSE, operation,
                  "the options' `size` is " + std::to_string(size) +
                      ", must be their sizeof: " + std::to_string(sizeof(Options)));
  }
  const std::size_t known = std::min(size, sizeof(Options));
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (std::any_of(bytes + known, bytes + size, [](auto byte) { return byte != 0; })) {
    return failed(SPILLWAY_UNSUPPORTED, operation,
                  "the options have fields that this version of the library does not know");
  }
  std::memcpy(options, given, known);
  return SPILLWAY_OK;
}

// Fills in the fields of a result that the caller's header has.
template <typename Result>
spillway_status write_result(Result result, Result* wanted, const char* operation) {
  static_assert(std::is_trivially_copyable_v<Result>);
  if (wanted == nullptr) return failed(SPILLWAY_MISUSE, operation, "the result is NULL");
  const std::size_t size = wanted->size;
  if (size < sizeof(Result) || size > 4096) {
    return failed(SPILLWAY_MISUSE, operation,
                  "the result's `size` is " + std::to_string(size) +
                      ", must be its sizeof: " + std::to_string(sizeof(Result)));
  }
  result.size = size;
  std::memcpy(wanted, &result, sizeof(Result));
  return SPILLWAY_OK;
}

// Checks that there is a place for a result; SPILLWAY_MISUSE if not.
inline spillway_status want(const void* result, const char* operation) {
  if (result != nullptr) return SPILLWAY_OK;
  return failed(SPILLWAY_MISUSE, operation, "the place for the result is NULL");
}

// Checks that `value` is from 0 to `last`.
inline spillway_status want_choice(std::int32_t value, std::int32_t last, const char* field,
                                   const char* operation) {
  if (value >= 0 && value <= last) return SPILLWAY_OK;
  return failed(SPILLWAY_MISUSE, operation,
                std::string(field) + " is " + std::to_string(value) + ", must be 0 to " +
                    std::to_string(last));
}

}  // namespace spillway::c
