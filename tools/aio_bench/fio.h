// The twin that fio is (fio_job.h), of a cell.
#pragma once

#include <spillway/aio/error.h>

#include "cell.h"
#include "test_file.h"

namespace spillway::aio_bench {

// Whether fio's buffers lie on huge pages, as the engine's do.
bool fio_has_huge_pages(const Setting& setting);

// One job of about `seconds` over the file. Writes over the file. Returns GB/s, of both directions
// in a mix.
Result<double> run_fio(const TestFile& test, Workload workload, const Setting& setting,
                       int read_percent, double seconds);

}  // namespace spillway::aio_bench
