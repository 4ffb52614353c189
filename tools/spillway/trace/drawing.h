// A trace as a picture.
#pragma once

#include <string>

#include "tools/spillway/trace/file.h"

namespace spillway::tools {

// SVG of a fixed width: a row a lane, under a time axis; what is shorter than a third of a pixel is
// drawn together, so that the size does not grow with the trace. Dark where the viewer is.
std::string draw_trace(const TraceFile& trace);

}  // namespace spillway::tools
