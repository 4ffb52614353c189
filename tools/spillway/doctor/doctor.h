// spillway doctor: what this machine can do for Spillway, every capability OK or NO with the
// reason and what would help. Made to be pasted into a bug report.
#pragma once

#include <CLI/CLI.hpp>

namespace spillway::tools {

// Adds the subcommand. It always ends with exit code 0 (a machine that lacks something is no
// failure of doctor), but for a usage error, which CLI11 reports.
void add_doctor(CLI::App& program);

}  // namespace spillway::tools
