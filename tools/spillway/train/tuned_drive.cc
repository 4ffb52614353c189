#include "tools/spillway/train/tuned_drive.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/common/device_label.h"

namespace spillway::tools {

using trainer::OffloadDevice;

std::string tuned_elsewhere(const trainer::TunedDrive& tuned, const aio::PathProbe& probe) {
  const std::string device = device_label(probe);
  if (tuned.device.empty() || names_device(tuned.device, device)) return "";
  return fmt::format(
      "the aio block was tuned on {}, but {} is on {}: tune it with 'aio_bench {} --write-config "
      "CONFIG'",
      tuned.device, probe.path, device, probe.path);
}

std::vector<std::string> tuning_notes(const trainer::Config& config) {
  std::vector<std::string> notes;
  for (const trainer::OffloadConfig* offload : {&config.offload_param, &config.offload_optimizer}) {
    if (offload->device != OffloadDevice::kNvme) continue;
    const std::string note = tuned_elsewhere(config.tuned, aio::probe_path(offload->nvme_path));
    if (!note.empty() && std::ranges::count(notes, note) == 0) notes.push_back(note);
  }
  return notes;
}

std::string share_of_tuned(const trainer::TunedDrive& tuned, std::uint64_t read_bytes,
                           std::uint64_t written_bytes, double seconds) {
  const double at_best = tuned.seconds_for(read_bytes, written_bytes);
  if (at_best <= 0 || seconds <= 0) return "";
  const std::string spread =
      tuned.spread > 0 ? fmt::format(", +-{:.0f}%", 100 * tuned.spread / 2) : "";
  return fmt::format(" ({:.0f}% of tuned{})", 100 * at_best / seconds, spread);
}

}  // namespace spillway::tools
