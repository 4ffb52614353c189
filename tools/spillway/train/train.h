// spillway train: trains a model with its states where the configuration puts them.
#pragma once

#include <CLI/CLI.hpp>

namespace spillway::tools {

// Adds the subcommand. `exit_code` becomes 1 when the run failed, 130 when it was interrupted.
void add_train(CLI::App& program, int& exit_code);

}  // namespace spillway::tools
