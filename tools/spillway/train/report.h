// What `spillway train` prints at its end: what was where, what moved, who waited for whom.
#pragma once

#include <spillway/trainer/run_report.h>

#include <cstdint>

namespace spillway::tools {

// Prints where the states were, bytes per step beside the theory, time, and peak memory.
void print_summary(const trainer::RunSummary& summary);

// Prints what `rank` holds in each tier, and the map parameter -> unit, tiles, ranks.
void print_memory_report(const trainer::RunSummary& summary, const trainer::MemoryMap& map,
                         std::uint32_t rank);

void print_trace(const trainer::TraceWritten& trace);

}  // namespace spillway::tools
