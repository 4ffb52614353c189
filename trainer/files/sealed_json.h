// A JSON object whose last member is the checksum of the text before it, and the checked reading of
// its members. Internal to checkpoints.
#pragma once

#include <spillway/aio/error.h>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::trainer {

// The object as text, with a last member "checksum": XXH3 (64 bits, 16 hexadecimal digits) of all
// bytes before those digits. REQUIRES: a non-empty object.
std::string seal(const nlohmann::ordered_json& object);
// kCorrupt unless the text is as it was sealed.
Result<nlohmann::ordered_json> unseal(std::string_view text, const std::string& name);

std::string hex_of(std::uint64_t value);

// Members of an object by name and type. The first thing that is wrong is remembered and 0, an
// empty text or nothing given in its place, so that reading needs no branches; ask at the end.
class JsonFields {
 public:
  explicit JsonFields(std::string name) : name_(std::move(name)) {}

  std::uint64_t number(const nlohmann::ordered_json& object, const char* key, std::uint64_t most);
  std::uint64_t element(const nlohmann::ordered_json& array, std::size_t index, std::uint64_t most);
  double real(const nlohmann::ordered_json& object, const char* key);
  bool flag(const nlohmann::ordered_json& object, const char* key);
  std::string text(const nlohmann::ordered_json& object, const char* key);
  std::uint64_t hex(const nlohmann::ordered_json& value);
  // A plain file name: letters, digits, '.', '_' and '-', no dot at its start.
  std::string file_name(const nlohmann::ordered_json& object, const char* key);
  const nlohmann::ordered_json& array(const nlohmann::ordered_json& object, const char* key);
  const nlohmann::ordered_json& object(const nlohmann::ordered_json& object, const char* key);
  // The number of `text` among `names`.
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
