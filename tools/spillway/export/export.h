// spillway export: a checkpoint's weights as the files that others read.
#pragma once

#include <CLI/CLI.hpp>

namespace spillway::tools {

void add_export(CLI::App& program, int& exit_code);

}  // namespace spillway::tools
