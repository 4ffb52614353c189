// Writes an "aio" block into a configuration and changes nothing else: no key, order or formatting
// outside the block.
#pragma once

#include <spillway/aio/error.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace spillway::aio_bench {

struct MergedConfig {
  std::string text;
  std::vector<std::string> notes;  // older spellings that were replaced, and advice
};

// Returns `text` with `aio` in it. Other keys of its own block (use_gds, backend) stay; older
// spellings of the thread knob are removed. kInvalid, in one line, if `text` or "aio" is no JSON
// object, or "aio" occurs twice. `name`: the name of the text in errors.
Result<MergedConfig> merge_aio(const std::string& text, const std::string& name,
                               const nlohmann::ordered_json& aio);

// As above for a file, replaced in one step; creates a missing one. Returns the notes.
Result<std::vector<std::string>> write_config(const std::filesystem::path& path,
                                              const nlohmann::ordered_json& aio);

// Checks that write_config will succeed, before time is spent: reads, merges, and writes nothing.
Result<void> can_write_config(const std::filesystem::path& path);

}  // namespace spillway::aio_bench
