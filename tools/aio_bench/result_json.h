// The result as a JSON document, for programs and for `aio_bench compare`.
#pragma once

#include <spillway/aio/error.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "report.h"

namespace spillway::aio_bench {

nlohmann::ordered_json to_json(const std::vector<Report>& reports);

// As text, whatever bytes a path holds.
std::string dumped(const nlohmann::ordered_json& document);

// The part of one target of such a document that `compare` needs.
struct StoredTarget {
  std::string name;  // of the directories
  // Possible causes of a difference: device, engine, kernel, version, in this order.
  std::vector<std::pair<std::string, std::string>> circumstances;
  std::vector<CellResult> results;
  Setting recommended;
};

// Reads a document; kInvalid, in one line, if the file has none.
Result<std::vector<StoredTarget>> read_result(const std::filesystem::path& path);

}  // namespace spillway::aio_bench
