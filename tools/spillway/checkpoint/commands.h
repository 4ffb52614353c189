// `spillway verify` and `spillway inspect`: is a checkpoint whole, and what is in it.
#pragma once

#include <spillway/trainer/checkpoint.h>

#include <CLI/CLI.hpp>
#include <filesystem>

namespace spillway::tools {

void add_verify(CLI::App& program, int& exit_code);
void add_inspect(CLI::App& program, int& exit_code);

// The checkpoint at the path, or the newest one in the directory there.
Result<trainer::Checkpoint> open_checkpoint_at(const std::filesystem::path& path);

}  // namespace spillway::tools
