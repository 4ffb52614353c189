// fio as a twin of the engine: the same file, block size, depth, threads and workload.
#pragma once

#include <spillway/aio/error.h>
#include <string>
#include <vector>

#include "cell.h"
#include "test_file.h"

namespace spillway::aio_bench {

// "fio-3.33"; empty when there is no fio.
std::string fio_version();

// Whether enough huge pages are free for fio's buffers. Without, they lie on small pages, which it
// cannot join to large ones as the engine's pools do.
bool fio_has_huge_pages(const Setting& setting);

// One job of about `seconds` over the file: io_uring, direct, with registered buffers and files as
// the engine has them, submitting in batches, on huge pages where some are free. Writes over the
// file. Returns GB/s, of both directions in a mix.
Result<double> run_fio(const TestFile& test, Workload workload, const Setting& setting,
                       int read_percent, double seconds);

}  // namespace spillway::aio_bench
