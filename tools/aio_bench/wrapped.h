// Wraps a text into lines.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace spillway::aio_bench {

// Returns lines of at most `columns` characters (of UTF-8), broken at spaces, and inside a word
// only if it is longer than a line. At least one line. REQUIRES: columns > 0.
std::vector<std::string> wrapped(const std::string& text, std::size_t columns);

}  // namespace spillway::aio_bench
