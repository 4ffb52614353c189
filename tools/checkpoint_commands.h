// `spillway verify` and `spillway inspect`: is a checkpoint whole, and what is in it.
#pragma once

#include <CLI/CLI.hpp>

namespace spillway::tools {

void add_verify(CLI::App& program, int& exit_code);
void add_inspect(CLI::App& program, int& exit_code);

}  // namespace spillway::tools
