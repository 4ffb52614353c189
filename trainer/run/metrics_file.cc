#include "trainer/run/metrics_file.h"

#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

namespace spillway::trainer {
namespace {

using nlohmann::ordered_json;

void refuse_foreign_file(const std::string& path) {
  std::error_code error;
  // A device or a pipe holds nothing, and reading one might never end.
  if (!std::filesystem::is_regular_file(path, error)) return;
  std::ifstream existing(path);
  std::string line;
  if (!existing || !std::getline(existing, line)) return;
  const ordered_json first = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (first.is_object() && first.contains("step") && first.contains("loss")) return;
  throw Failure(make_error(ErrorKind::kInvalid, "write metrics", path,
                           "the file exists and holds no metrics: it is left alone, name another "
                           "or remove it")
                    .value());
}

// Removes the lines of steps after `done`, which will be done again, and a line cut short.
void cut_after(const std::string& path, std::uint64_t done) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return;
  std::ifstream file(path);
  std::uint64_t kept_bytes = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    const ordered_json json = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_unsigned() ||
        json["step"].get<std::uint64_t>() > done) {
      break;
    }
    kept_bytes += line.size() + 1;
  }
  std::filesystem::resize_file(path, kept_bytes, error);
  if (error) throw Failure(errno_error("write metrics", path, error.value()).value());
}

ordered_json as_json(const StepFigures& figures) {
  const StepReport& r = figures.report;
  const auto usage = pinned_pool::memory_usage();
  ordered_json line{
      {"step", r.step},
      {"loss", r.loss},
      {"grad_norm", r.grad_norm},
      {"lr", r.learning_rate},
      {"seconds", r.seconds},
      {"io_wait_seconds", r.io_wait_seconds},
      {"update_wait_seconds", r.update_wait_seconds},
      {"compute_seconds", r.compute_seconds},
      {"optimizer_seconds", r.optimizer_seconds},
      {"update_seconds", r.update_seconds},
      {"update_drive_busy_seconds", r.update_drive_busy_seconds},
      {"update_drive_idle_seconds", r.update_drive_idle_seconds},
      {"tiles_updated_ahead", r.speculative_tiles.kept},
      {"tiles_taken_back", r.speculative_tiles.rolled_back},
      {"tokens_per_second", static_cast<double>(figures.tokens) / std::max(r.seconds, 1e-9)},
      {"nvme_read_bytes", r.nvme_read_bytes},
      {"nvme_written_bytes", r.nvme_written_bytes},
      {"pinned_bytes", pinned_pool::MemoryLimits::read().locked_bytes},
      {"rss_bytes", usage.resident_bytes}};
  if (figures.eval_loss) line["eval_loss"] = *figures.eval_loss;
  return line;
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, std::uint64_t done)
    : path_(path.string()) {
  refuse_foreign_file(path_);
  if (done > 0) cut_after(path_, done);
  file_.open(path_, done > 0 ? std::ios::app : std::ios::trunc);
  if (!file_) throw Failure(errno_error("write metrics", path_, errno).value());
}

void MetricsFile::write(const StepFigures& figures) {
  file_ << as_json(figures).dump() << '\n' << std::flush;
  if (!file_) throw Failure(errno_error("write metrics", path_, errno == 0 ? EIO : errno).value());
}

}  // namespace spillway::trainer
