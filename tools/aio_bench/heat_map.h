// The cells as a picture: a panel for each workload and number of threads, with block sizes to the
// right, depths upwards, and the speed as colour.
#pragma once

#include <string>
#include <vector>

#include "report.h"

namespace spillway::aio_bench {

// Returns a whole SVG document.
std::string heat_map(const std::vector<Report>& reports);

}  // namespace spillway::aio_bench
