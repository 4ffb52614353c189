// Seals JSON objects with a checksum of their text, and reads their members with checks. Internal
// to checkpoints.
#pragma once

#include <spillway/aio/error.h>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::trainer {

// Returns `object` as text, with "checksum" as its last member: XXH3 (64 bits, 16 hexadecimal
// digits) of all bytes before those digits. REQUIRES: a non-empty object.
std::string seal(const nlohmann::ordered_json& object);
// Parses a sealed text. kCorrupt if its checksum does not match. Errors call it `name`.
Result<nlohmann::ordered_json> unseal(std::string_view text, const std::string& name);

std::string hex_of(std::uint64_t value);

// Reads members of an object by name and type. A wrong member reads as 0 or empty, and the first
// problem is kept: callers need no branches, and ask outcome() at the end.
class JsonFields {
 public:
  explicit JsonFields(std::string name) : name_(std::move(name)) {}

  std::uint64_t number(const nlohmann::ordered_json& object, const char* key, std::uint64_t most);
  std::uint64_t element(const nlohmann::ordered_json& array, std::size_t index, std::uint64_t most);
  double real(const nlohmann::ordered_json& object, const char* key);
  bool flag(const nlohmann::ordered_json& object, const char* key);
  std::string text(const nlohmann::ordered_json& object, const char* key);
  std::uint64_t hex(const nlohmann::ordered_json& value);
  // Reads a plain file name: letters, digits, '.', '_' and '-', without a dot at its start.
  std::string file_name(const nlohmann::ordered_json& object, const char* key);
  const nlohmann::ordered_json& array(const nlohmann::ordered_json& object, const char* key);
  const nlohmann::ordered_json& object(const nlohmann::ordered_json& object, const char* key);
  // Reads one of `names`, and returns its index.
  std::uint32_t choice(const nlohmann::ordered_json& object, const char* key,
                       const std::vector<std::string>& names);

  void refuse(const std::string& problem);
  bool good() const noexcept { return problem_.empty(); }
  Result<void> outcome() const;

 private:
  const nlohmann::ordered_json* member(const nlohmann::ordered_json& object, const char* key);

  std::string name_;
  std::string problem_;
};

}  // namespace spillway::trainer
