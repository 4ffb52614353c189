// fio as the twin of a cell (fio_job.h).
#pragma once

#include <spillway/aio/error.h>

#include "cell.h"
#include "test_file.h"

namespace spillway::aio_bench {

// Whether fio's buffers are on huge pages, like the engine's.
bool fio_has_huge_pages(const Setting& setting);

// Runs one job of about `seconds`, which overwrites the file. Returns GB/s, of both directions in a
// mix.
Result<double> run_fio(const TestFile& test, Workload workload, const Setting& setting,
                       int read_percent, double seconds);

}  // namespace spillway::aio_bench
