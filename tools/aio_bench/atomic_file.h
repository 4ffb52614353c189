// Replaces a file in one step: a reader sees all of the old text or all of the new.
#pragma once

#include <spillway/aio/error.h>
#include <filesystem>
#include <string>

namespace spillway::aio_bench {

// Writes `text` beside the file, to the disk, and renames it over. A symbolic link stays one and
// its target is replaced; mode and, where allowed, owner stay. On failure the file is as it was
// and nothing is left beside it. Blocks.
Result<void> replace_file(const std::filesystem::path& path, const std::string& text);

// Why replace_file would fail, as far as it can be known beforehand: the folder is not writable,
// or the path is something else than a file.
Result<void> can_replace(const std::filesystem::path& path);

}  // namespace spillway::aio_bench
