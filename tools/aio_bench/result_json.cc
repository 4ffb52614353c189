#include "result_json.h"

#include <spillway/version.h>
#include <sys/utsname.h>

#include <cerrno>
#include <ctime>
#include <fstream>

namespace spillway::aio_bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "aio_bench";  // a key at the top, its value the format's version
constexpr int kFormatVersion = 1;

std::string kernel() {
  utsname name{};
  uname(&name);
  return std::string(name.sysname) + " " + name.release;
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

Json setting_json(const Setting& setting) {
  return {{"block_size", setting.block_size_bytes},
          {"queue_depth", setting.queue_depth},
          {"threads", setting.thread_count}};
}

Json drive_json(const aio::PathProbe& probe) {
  return {{"path", probe.path},
          {"filesystem", probe.filesystem},
          {"block_device", probe.block_device},
          {"device_model", probe.device_model},
          {"rotational", probe.rotational},
          {"scheduler", probe.scheduler},
          {"numa_node", probe.numa_node},
          {"memory_alignment", probe.memory_alignment},
          {"offset_alignment", probe.offset_alignment},
          {"free_bytes", probe.free_bytes}};
}

Json cell_json(const CellResult& cell) {
  Json document = {{"workload", name_of(cell.workload)}};
  document.update(setting_json(cell.setting));
  document.update({{"finalist", cell.finalist},
                   {"outliers", cell.outliers},
                   {"gb_per_second", cell.gb_per_second()},
                   {"p50_us", cell.p50_us()},
                   {"p99_us", cell.p99_us()},
                   {"cpu_percent", cell.cpu_percent()},
                   {"cpu_seconds_per_gb", cell.cpu_seconds_per_gb()},
                   {"system_calls_per_gb", cell.system_calls_per_gb()},
                   {"repetitions", Json::array()}});
  for (const Measurement& one : cell.repetitions) {
    document["repetitions"].push_back({{"gb_per_second", one.gb_per_second()},
                                       {"seconds", one.seconds},
                                       {"read_bytes", one.read_bytes},
                                       {"written_bytes", one.written_bytes},
                                       {"cpu_seconds", one.cpu_seconds},
                                       {"system_calls", one.system_calls},
                                       {"p50_us", one.p50_us},
                                       {"p99_us", one.p99_us}});
  }
  return document;
}

Json fio_json(const FioPairs& pairs) {
  Json document = {{"workload", name_of(pairs.workload)}};
  document.update(setting_json(pairs.setting));
  document.update({{"engine_gb_per_second", pairs.engine_gb_per_second},
                   {"fio_gb_per_second", pairs.fio_gb_per_second},
                   {"share_of_fio", pairs.share()}});
  return document;
}

Json report_json(const Report& report) {
  Json document = {{"name", report.target.name()},
                   {"device", report.target.device()},
                   {"drives", Json::array()},
                   {"engine", report.engine.choice},
                   {"notes", report.engine.notes},
                   {"file_bytes", report.file_bytes},
                   {"fill_gb_per_second", report.fill_gb_per_second},
                   {"read_percent", report.read_percent},
                   {"cells", Json::array()}};
  for (const std::string& note : report.notes) document["notes"].push_back(note);
  for (const aio::PathProbe& probe : report.target.probes) {
    document["drives"].push_back(drive_json(probe));
  }
  for (const CellResult& cell : report.results) document["cells"].push_back(cell_json(cell));
  for (const FioPairs& pairs : report.fio) document["fio"].push_back(fio_json(pairs));
  const Recommendation& found = report.recommendation;
  document["recommendation"] = setting_json(found.setting);
  document["recommendation"].update({{"ranked_by", name_of(found.ranked_by)},
                                     {"gb_per_second", found.gb_per_second},
                                     {"best_gb_per_second", found.best_gb_per_second},
                                     {"spread", found.spread},
                                     {"taken_as_equal", found.as_good},
                                     {"too_noisy", found.too_noisy()},
                                     {"reason", reason_of(found, report.read_percent)}});
  document["aio"] = aio_block(report);
  return document;
}

Setting setting_from(const Json& document) {
  return {document.at("block_size").get<std::uint32_t>(),
          document.at("queue_depth").get<std::uint32_t>(),
          document.at("threads").get<std::uint32_t>()};
}

CellResult cell_from(const Json& document) {
  const auto workload = workload_of(document.at("workload").get<std::string>());
  CellResult cell{.workload = workload.value_or(Workload::kMix), .setting = setting_from(document)};
  cell.finalist = document.at("finalist").get<bool>();
  for (const Json& one : document.at("repetitions")) {
    cell.repetitions.push_back({.seconds = one.at("seconds").get<double>(),
                                .cpu_seconds = one.at("cpu_seconds").get<double>(),
                                .read_bytes = one.at("read_bytes").get<std::uint64_t>(),
                                .written_bytes = one.at("written_bytes").get<std::uint64_t>(),
                                .system_calls = one.at("system_calls").get<std::uint64_t>(),
                                .p50_us = one.at("p50_us").get<double>(),
                                .p99_us = one.at("p99_us").get<double>()});
  }
  return cell;
}

StoredTarget target_from(const Json& document, const Json& root) {
  StoredTarget target{.name = document.at("name").get<std::string>(),
                      .circumstances = {{"device", document.at("device").get<std::string>()},
                                        {"engine", document.at("engine").get<std::string>()},
                                        {"kernel", root.at("kernel").get<std::string>()},
                                        {"spillway", root.at("spillway").get<std::string>()}},
                      .results = {},
                      .recommended = setting_from(document.at("recommendation"))};
  for (const Json& cell : document.at("cells")) {
    CellResult result = cell_from(cell);
    if (!result.repetitions.empty()) target.results.push_back(std::move(result));
  }
  return target;
}

}  // namespace

nlohmann::ordered_json to_json(const std::vector<Report>& reports) {
  Json document = {{kFormat, kFormatVersion},
                   {"spillway", SPILLWAY_VERSION_STRING},
                   {"kernel", kernel()},
                   {"ended", now()},
                   {"targets", Json::array()}};
  for (const Report& report : reports) document["targets"].push_back(report_json(report));
  return document;
}

std::string dumped(const nlohmann::ordered_json& document) {
  return document.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

Result<std::vector<StoredTarget>> read_result(const std::filesystem::path& path) {
  const auto invalid = [&] {
    return make_error(ErrorKind::kInvalid, "compare", path.string(),
                      "it is no result of aio_bench --json");
  };
  errno = 0;
  std::ifstream file(path);
  if (!file) return errno_error("compare", path.string(), errno == 0 ? EIO : errno);
  const Json root = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains(kFormat) || root[kFormat] != kFormatVersion) {
    return invalid();
  }
  try {
    std::vector<StoredTarget> targets;
    for (const Json& one : root.at("targets")) targets.push_back(target_from(one, root));
    return targets;
  } catch (const nlohmann::json::exception&) {  // a key is missing, or has another type
    return invalid();
  }
}

}  // namespace spillway::aio_bench
