// The cells as a picture: a panel for each workload and number of threads, block sizes to the
// right, depths upwards, the colour telling the speed.
#pragma once

#include <string>
#include <vector>

#include "report.h"

namespace spillway::aio_bench {

// A whole SVG document.
std::string heat_map(const std::vector<Report>& reports);

}  // namespace spillway::aio_bench
