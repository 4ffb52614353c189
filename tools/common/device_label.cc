#include "tools/common/device_label.h"

namespace spillway {

std::string device_label(const aio::PathProbe& probe) {
  if (probe.block_device.empty()) return "none (" + probe.filesystem + ")";
  if (probe.device_model.empty()) return probe.block_device;
  return probe.block_device + " (" + probe.device_model + ")";
}

bool names_device(const std::string& labels, const std::string& label) {
  const std::string separator = kDeviceSeparator;
  const std::string all = separator + labels + separator;
  return all.find(separator + label + separator) != std::string::npos;
}

}  // namespace spillway
