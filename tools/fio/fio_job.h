// fio as a twin of the engine: one job over the same files, with the same blocks, depth and
// threads.
//
// io_uring, direct, with registered buffers and files as the engine has them, submitting and
// reaping in batches as large as the depth. aio_bench and the programs of bench/ run it.
#pragma once

#include <spillway/aio/file.h>

#include <cstdint>
#include <span>
#include <string>

namespace spillway::fio {

// "fio-3.33"; empty when there is no fio.
std::string version();

struct Job {
  std::span<const aio::File> files;  // dealt to in turn
  std::string workload;              // "read", "write", or "rw" with so many reads in a hundred
  int read_percent = 50;
  std::uint32_t block_size_bytes = 0;
  std::uint32_t queue_depth = 0;  // a thread
  std::uint32_t thread_count = 0;
  std::uint64_t part_bytes = 0;  // of each file that each thread has to itself
  // 0: each part is moved once; else for about so long, over and over.
  double seconds = 0;

  std::uint64_t buffer_bytes() const {
    return std::uint64_t{block_size_bytes} * queue_depth * thread_count;
  }
};

// Whether enough huge pages are free for fio's buffers. Without, they lie on small pages, which it
// cannot join to large ones as the engine's pools do.
bool has_huge_pages(std::uint64_t buffer_bytes);

struct Moved {
  double seconds = 0;      // fio's own: starting it is not counted
  double cpu_seconds = 0;  // user and system, all threads
  std::uint64_t bytes = 0;
};

// As a shell would run it.
std::string command_of(const Job& job);
// Blocks until it has ended. kIo when it failed or moved nothing.
Result<Moved> run(const Job& job);

// What a shell command prints; empty when it fails.
std::string output_of(const std::string& command);

}  // namespace spillway::fio
