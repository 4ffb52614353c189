// The result as a document: everything measured, for programs and for `aio_bench compare`.
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

// What `compare` needs of one target of such a document.
struct StoredTarget {
  std::string name;  // of the directories
  // What may explain a difference: device, engine, kernel, version, in that order.
  std::vector<std::pair<std::string, std::string>> circumstances;
  std::vector<CellResult> results;
  Setting recommended;
};

// kInvalid, in one line, when the file holds no such document.
Result<std::vector<StoredTarget>> read_result(const std::filesystem::path& path);

}  // namespace spillway::aio_bench
