// spillway trace: draws a trace of `spillway train --trace` and says what it shows.
#pragma once

#include <CLI/CLI.hpp>

namespace spillway::tools {

// Adds the subcommand. `exit_code` becomes 1 when the file is no trace or cannot be drawn.
void add_trace(CLI::App& program, int& exit_code);

}  // namespace spillway::tools
