// Readers of the text files of /proc and of cgroups. They return std::nullopt for a file or key
// that does not exist: that depends on the kernel and the container.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "spillway/pinned_pool/limits.h"

namespace spillway::pinned_pool {

std::optional<std::string> read_text(const std::filesystem::path& path);

// Returns the number after `key` at the start of a line ("VmRSS:" 1784 kB; "inactive_file" 4096),
// in bytes if the line ends in kB.
std::optional<std::uint64_t> number_after(std::string_view text, std::string_view key);

// Returns the first word after `key` at the start of a line.
std::optional<std::string_view> word_after(std::string_view text, std::string_view key);

// Reads a file with one number; "max" is std::nullopt.
std::optional<std::uint64_t> read_number(const std::filesystem::path& path);

// As MemoryLimits::read, but without `untouched_bytes`, which takes longer the more there is.
MemoryLimits read_limits_of_kernel(const std::filesystem::path& root = "/");

}  // namespace spillway::pinned_pool
