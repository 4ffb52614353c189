#include "tools/spillway/train/metrics.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/failure.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/spillway/train/tuned_drive.h"

namespace spillway::tools {
namespace {

using nlohmann::ordered_json;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

void refuse_foreign_file(const std::string& path) {
  std::error_code error;
  // A device or a pipe holds nothing, and reading one might never end.
  if (!std::filesystem::is_regular_file(path, error)) return;
  std::ifstream existing(path);
  std::string line;
  if (!existing || !std::getline(existing, line)) return;
  const ordered_json first = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (first.is_object() && first.contains("step") && first.contains("loss")) return;
  throw trainer::Failure(make_error(ErrorKind::kInvalid, "write metrics", path,
                                    "the file exists and holds no metrics: it is left alone, name "
                                    "another or remove it")
                             .value());
}

// Takes away the lines of steps after `done`, which will be done again, and a line cut short.
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
  if (error) throw trainer::Failure(errno_error("write metrics", path, error.value()).value());
}

std::string duration(double seconds) {
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole >= 3600)
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

// " (compute waited 3%, drive 12%; 96% of the update's I/O hidden)": compute of the step, the drive
// of the update that ran in it; hidden is what of the drive's time nobody stood still for.
std::string who_waited(const trainer::StepReport& report) {
  const double busy = report.update_drive_busy_seconds, idle = report.update_drive_idle_seconds;
  if (busy <= 0 || report.seconds <= 0) return "";
  const auto percent = [](double share) { return 100 * std::clamp(share, 0.0, 1.0); };
  return fmt::format(" (compute waited {:.0f}%, drive {:.0f}%; {:.0f}% of the update's I/O hidden)",
                     percent(report.io_wait_seconds / report.seconds),
                     percent(idle / (busy + idle)), percent(1 - report.update_wait_seconds / busy));
}

}  // namespace

TrainMetrics::TrainMetrics(Options options)
    : options_(std::move(options)), terminal_(isatty(STDOUT_FILENO) == 1) {
  options_.steps_per_print = std::max<std::uint64_t>(1, options_.steps_per_print);
  const auto limits = pinned_pool::MemoryLimits::read();
  const auto machine = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                       static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  memory_bytes_ = std::min(machine, limits.cgroup_limit_bytes);
  const std::string& path = options_.path;
  if (path.empty()) return;
  refuse_foreign_file(path);
  if (options_.done > 0) cut_after(path, options_.done);
  file_.open(path, options_.done > 0 ? std::ios::app : std::ios::trunc);
  if (!file_) throw trainer::Failure(errno_error("write metrics", path, errno).value());
}

void TrainMetrics::step(const StepFigures& figures) {
  seconds_ += figures.report.seconds;
  if (!options_.path.empty()) write_json(figures);
  const bool last = figures.report.step == options_.steps;
  const bool due = figures.report.step % options_.steps_per_print == 0 || figures.eval_loss || last;
  if (terminal_) {
    constexpr int kWidth = 20;
    const auto filled =
        static_cast<int>(kWidth * figures.report.step / std::max<std::uint64_t>(1, options_.steps));
    fmt::print("\r\033[K[{:#<{}}{:.<{}}] {}", "", filled, "", kWidth - filled,
               status_line(figures));
    bar_open_ = true;
  } else if (due) {
    fmt::print("{}\n", status_line(figures));
  }
  std::fflush(stdout);
}

void TrainMetrics::say(const std::string& text) {
  fmt::print("{}{}\n", bar_open_ ? "\r\033[K" : "", text);
  bar_open_ = false;
  std::fflush(stdout);
}

void TrainMetrics::finish() {
  if (bar_open_) fmt::print("\n");
  bar_open_ = false;
}

std::string TrainMetrics::status_line(const StepFigures& figures) const {
  const trainer::StepReport& r = figures.report;
  const double seconds = std::max(r.seconds, 1e-9);
  std::string line = fmt::format(
      "step {}/{} loss {:.4f} norm {:.3f} lr {:.2e} {:.2f} s (io wait {:.2f}) {:.0f} tok/s", r.step,
      options_.steps, r.loss, r.grad_norm, r.learning_rate, r.seconds, r.io_wait_seconds,
      static_cast<double>(figures.tokens) / seconds);
  if (r.nvme_read_bytes + r.nvme_written_bytes > 0) {
    line += fmt::format(" nvme r {:.2f} w {:.2f} GB/s",
                        static_cast<double>(r.nvme_read_bytes) / seconds / 1e9,
                        static_cast<double>(r.nvme_written_bytes) / seconds / 1e9);
    // The ranks' shares of the states are equal, and so is what they move.
    line += share_of_tuned(options_.tuned, options_.local_ranks * r.nvme_read_bytes,
                           options_.local_ranks * r.nvme_written_bytes, seconds);
    line += who_waited(r);
  }
  line += fmt::format(" cpu {:.1f}/{:.0f} GiB",
                      static_cast<double>(pinned_pool::memory_usage().resident_bytes) / kGiB,
                      static_cast<double>(memory_bytes_) / kGiB);
  if (figures.eval_loss) line += fmt::format(" eval {:.4f}", *figures.eval_loss);
  const double left = seconds_ / static_cast<double>(r.step - options_.done) *
                      static_cast<double>(options_.steps - r.step);
  return line + " eta " + duration(left);
}

void TrainMetrics::write_json(const StepFigures& figures) {
  const trainer::StepReport& r = figures.report;
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
  file_ << line.dump() << '\n' << std::flush;
  if (!file_) {
    throw trainer::Failure(
        errno_error("write metrics", options_.path, errno == 0 ? EIO : errno).value());
  }
}

}  // namespace spillway::tools
