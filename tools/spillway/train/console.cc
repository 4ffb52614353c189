#include "tools/spillway/train/console.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tools/spillway/common/error_text.h"
#include "tools/spillway/train/tuned_drive.h"

namespace spillway::tools {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

std::string duration(double seconds) {
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole >= 3600)
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

// " (compute waited 3%, drive 12%; 96% of the update's I/O hidden)": compute of the step, the drive
// of the update that ran in it; hidden is the share of the drive's time in which nobody waited.
std::string who_waited(const trainer::StepReport& report) {
  const double busy = report.update_drive_busy_seconds, idle = report.update_drive_idle_seconds;
  if (busy <= 0 || report.seconds <= 0) return "";
  const auto percent = [](double share) { return 100 * std::clamp(share, 0.0, 1.0); };
  return fmt::format(" (compute waited {:.0f}%, drive {:.0f}%; {:.0f}% of the update's I/O hidden)",
                     percent(report.io_wait_seconds / report.seconds),
                     percent(idle / (busy + idle)), percent(1 - report.update_wait_seconds / busy));
}

}  // namespace

Console::Console(const trainer::Communicator& ranks)
    : ranks_(ranks), terminal_(isatty(STDOUT_FILENO) == 1) {
  const auto limits = pinned_pool::MemoryLimits::read();
  const auto machine = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                       static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  memory_bytes_ = std::min(machine, limits.cgroup_limit_bytes);
}

void Console::announce(const trainer::Run& run, const std::string& model,
                       const std::vector<trainer::KeyReport>& keys) {
  input_ = &run.input();
  const trainer::Config& config = input_->config;
  fmt::print("{}: {:.2f} M parameters in {} units, {}, offload parameters {}, optimizer {}\n",
             model, static_cast<double>(run.parameter_count()) / 1e6, run.unit_count(),
             config.dtype == trainer::Dtype::kBf16 ? "bf16" : "fp32",
             to_string(config.offload_param.device), to_string(config.offload_optimizer.device));
  fmt::print("a step: micro-batch {} x accumulation {} x {} ranks ({}) x {} tokens\n",
             config.micro_batch_size, config.gradient_accumulation_steps, ranks_.world_size(),
             ranks_.backend_name(), input_->context);
  for (const std::string& note : run.placement_notes()) fmt::print("{}\n", note);
  for (const std::string& note : tuning_notes(config)) fmt::print("note: {}\n", note);
  for (const trainer::KeyReport& key : keys) {
    if (key.fate == trainer::KeyFate::kUsed) continue;
    fmt::print("config {}: {}\n", key.key, key.note);
  }
  std::fflush(stdout);
}

void Console::progress(const std::string& line) {
  fmt::print("{}{}\n", bar_open_ ? "\r\033[K" : "", line);
  bar_open_ = false;
  std::fflush(stdout);
}

void Console::resumed(const trainer::CheckpointLoaded& checkpoint) {
  progress(fmt::format("resumed {} of {} ranks in {:.1f} s", checkpoint.path.string(),
                       checkpoint.world_size, checkpoint.seconds));
}

void Console::weights_loaded(const trainer::InitialWeightsLoaded& weights) {
  progress(fmt::format("weights of {}: {} tensors of {} in {} {}, {:.1f} s",
                       weights.directory.string(), weights.tensors, weights.dtypes, weights.files,
                       weights.files == 1 ? "file" : "files", weights.seconds));
}

void Console::saved(const trainer::CheckpointSaved& checkpoint) {
  progress(fmt::format("saved {} in {:.2f} s (training waited {:.3f} s)", checkpoint.path.string(),
                       checkpoint.seconds, checkpoint.waited_seconds));
}

void Console::stopped(std::uint64_t step) {
  progress(fmt::format(
      "stopped after step {}, as a signal asked; the same command goes on from there", step));
}

void Console::trace_failed(const Error& error) {
  fmt::print(stderr, "spillway train: {}\n", error_text(error));
}

void Console::step(const trainer::StepFigures& figures) {
  seconds_ += figures.report.seconds;
  const std::uint64_t steps = input_->steps;
  const std::uint64_t interval = std::max<std::uint64_t>(1, input_->config.steps_per_print);
  const bool last = figures.report.step == steps;
  const bool due = figures.report.step % interval == 0 || figures.eval_loss || last;
  if (terminal_) {
    constexpr int kWidth = 20;
    const auto filled =
        static_cast<int>(kWidth * figures.report.step / std::max<std::uint64_t>(1, steps));
    fmt::print("\r\033[K[{:#<{}}{:.<{}}] {}", "", filled, "", kWidth - filled,
               status_line(figures));
    bar_open_ = true;
  } else if (due) {
    fmt::print("{}\n", status_line(figures));
  }
  std::fflush(stdout);
}

void Console::finish() {
  if (bar_open_) fmt::print("\n");
  bar_open_ = false;
}

std::string Console::status_line(const trainer::StepFigures& figures) const {
  const trainer::StepReport& r = figures.report;
  const double seconds = std::max(r.seconds, 1e-9);
  std::string line = fmt::format(
      "step {}/{} loss {:.4f} norm {:.3f} lr {:.2e} {:.2f} s (io wait {:.2f}) {:.0f} tok/s", r.step,
      input_->steps, r.loss, r.grad_norm, r.learning_rate, r.seconds, r.io_wait_seconds,
      static_cast<double>(figures.tokens) / seconds);
  if (r.nvme_read_bytes + r.nvme_written_bytes > 0) {
    line += fmt::format(" nvme r {:.2f} w {:.2f} GB/s",
                        static_cast<double>(r.nvme_read_bytes) / seconds / 1e9,
                        static_cast<double>(r.nvme_written_bytes) / seconds / 1e9);
    const std::uint32_t local_ranks = ranks_.local_world_size();
    // The ranks' shares of the states are equal, and so is what they move.
    line += share_of_tuned(input_->config.tuned, local_ranks * r.nvme_read_bytes,
                           local_ranks * r.nvme_written_bytes, seconds);
    line += who_waited(r);
  }
  line += fmt::format(" cpu {:.1f}/{:.0f} GiB",
                      static_cast<double>(pinned_pool::memory_usage().resident_bytes) / kGiB,
                      static_cast<double>(memory_bytes_) / kGiB);
  if (figures.eval_loss) line += fmt::format(" eval {:.4f}", *figures.eval_loss);
  const double left =
      seconds_ / static_cast<double>(r.step - done_) * static_cast<double>(input_->steps - r.step);
  return line + " eta " + duration(left);
}

}  // namespace spillway::tools
