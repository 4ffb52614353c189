// Puts an "aio" block into a configuration and touches nothing else: not a key, not the order, not
// the formatting outside the block.
#pragma once

#include <spillway/aio/error.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace spillway::aio_bench {

struct MergedConfig {
  std::string text;
  std::vector<std::string> notes;  // older spellings replaced, what to look at
};

// `text` with `aio` in it. What its own block has beside (use_gds, backend) stays; older spellings
// of the thread knob go. kInvalid, in one line, when `text` is no JSON object, or "aio" is none, or
// is there twice. `name` is what errors call the text.
Result<MergedConfig> merge_aio(const std::string& text, const std::string& name,
                               const nlohmann::ordered_json& aio);

// The same with a file, replaced in one step; a missing one is created. Returns the notes.
Result<std::vector<std::string>> write_config(const std::filesystem::path& path,
                                              const nlohmann::ordered_json& aio);

// Whether write_config will succeed, before the time is spent: reads, merges, and writes nothing.
Result<void> can_write_config(const std::filesystem::path& path);

}  // namespace spillway::aio_bench
