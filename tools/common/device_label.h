// How a drive is named in a configuration: what aio_bench writes down and spillway train compares.
#pragma once

#include <spillway/aio/probe.h>
#include <string>

namespace spillway {

// Between the drives of a stripe.
inline constexpr const char* kDeviceSeparator = " + ";

// "/dev/nvme0n1 (Samsung SSD 990 PRO)"; "none (nfs)" where there is no block device.
std::string device_label(const aio::PathProbe& probe);

// Whether `label` is one of the drives that `labels`, a label or several joined, names.
bool names_device(const std::string& labels, const std::string& label);

}  // namespace spillway
