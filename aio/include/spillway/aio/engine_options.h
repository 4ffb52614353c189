// EngineOptions and EngineStats: the parameters of an Engine and its counters.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <spillway/aio/io_observer.h>
#include <spillway/aio/log.h>
#include <chrono>
#include <cstdint>
#include <vector>

namespace spillway::aio {

enum class BackendKind { kAuto, kIoUring, kThreadPool };

struct EngineOptions {
  BackendKind backend = BackendKind::kAuto;
  std::uint32_t block_size_bytes = 1 << 20;  // a positive multiple of 4096, at most 1 GiB
  std::uint32_t queue_depth = 32;            // operations in flight per thread, 1 to 4096
  std::uint32_t thread_count = 1;            // 1 to 64
  bool single_submit = false;                // one system call per operation (DeepSpeed's knob)
  bool measure_latency = false;              // fills latency(): two clock reads per operation
  // How long the destructor waits for operations in flight before it leaks their memory.
  std::chrono::milliseconds drain_timeout{10'000};
  LogCallback log = {};      // which engine and why, memory not registered, memory leaked
  IoObserver observer = {};  // called for every operation: for a trace
  // CPUs of the threads (0 to 1023). On a machine of several NUMA nodes: those near the drive; the
  // rings are then there too. Empty: any. kInvalid if the process may use none of them.
  std::vector<int> cpus = {};
};

// Checks the options; kInvalid names the wrong field.
SPILLWAY_API Result<void> validate(const EngineOptions& options);

struct EngineStats {
  std::uint64_t read_bytes = 0;     // read into Buffers, through bounce buffers too
  std::uint64_t written_bytes = 0;  // written to files
  std::uint64_t read_operations = 0;
  std::uint64_t write_operations = 0;
  std::uint64_t short_transfers = 0;
  std::uint64_t retries = 0;
  std::uint64_t system_calls = 0;
};

}  // namespace spillway::aio
