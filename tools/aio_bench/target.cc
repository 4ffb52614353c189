#include "target.h"

#include <algorithm>

#include "tools/common/device_label.h"

namespace spillway::aio_bench {
namespace {

Result<void> can_measure_in(const aio::PathProbe& probe) {
  if (probe.filesystem == "tmpfs" || probe.filesystem == "ramfs") {
    return make_error(ErrorKind::kUnsupported, "measure", probe.path,
                      probe.filesystem + " is memory, no disk: name a directory on a disk");
  }
  for (const aio::Capability& capability : probe.capabilities) {
    if (capability.available || capability.name == "real disk") continue;
    return make_error(ErrorKind::kUnsupported, "measure", probe.path,
                      capability.name + ": no (" + capability.reason + ")");
  }
  return {};
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : kDeviceSeparator) + part;
  return text;
}

}  // namespace

Target Target::of(const std::vector<std::filesystem::path>& directories) {
  Target target{directories, {}};
  for (const auto& directory : directories) target.probes.push_back(aio::probe_path(directory));
  return target;
}

std::string Target::name() const {
  std::vector<std::string> names;
  for (const auto& directory : directories) names.push_back(directory.string());
  return joined(names);
}

std::string Target::device() const {
  std::vector<std::string> names;
  for (const aio::PathProbe& probe : probes) names.push_back(device_label(probe));
  return joined(names);
}

std::string Target::filesystem() const {
  std::vector<std::string> names;
  for (const aio::PathProbe& probe : probes) {
    if (std::ranges::count(names, probe.filesystem) == 0) names.push_back(probe.filesystem);
  }
  return joined(names);
}

std::uint64_t Target::free_bytes() const {
  return std::ranges::min(probes, {}, &aio::PathProbe::free_bytes).free_bytes * probes.size();
}

Result<void> can_measure(const Target& target) {
  for (const aio::PathProbe& probe : target.probes) {
    if (auto possible = can_measure_in(probe); !possible) return possible;
  }
  return {};
}

}  // namespace spillway::aio_bench
