// What the comparison with fio found, as Markdown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine_pass.h"

namespace spillway::bench {

struct Round {
  Run ours, fio;
};

struct Cell {
  Setting setting;
  RequestBuffers buffers;        // ours
  std::uint64_t size_bytes = 0;  // of a pass
  std::vector<Round> rounds = {};
  std::uint64_t fio_system_calls = 0;  // 0: not known
};

void print_card(const std::string& directory, const std::string& label, const std::string& fio,
                std::uint64_t size_mib, int rounds);
void print_tables(const std::vector<Cell>& cells);
// One line for who waits: the setting and the ratios.
std::string describe(const Cell& cell);

}  // namespace spillway::bench
