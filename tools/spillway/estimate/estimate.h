// spillway estimate: what a model's training holds in each tier and moves per step, before the run.
#pragma once

#include <CLI/CLI.hpp>

namespace spillway::tools {

// Adds the subcommand. `exit_code` becomes 1 when the model or the configuration is wrong; a
// run that does not fit this machine is reported, and is no error.
void add_estimate(CLI::App& program, int& exit_code);

}  // namespace spillway::tools
