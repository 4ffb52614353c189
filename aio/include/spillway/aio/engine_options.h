// What an Engine is made with, and what it counts.
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
  bool measure_latency = false;              // fills latency(): two looks at the clock an operation
  // How long the destructor waits for what is in flight before it gives the memory up for lost.
  std::chrono::milliseconds drain_timeout{10'000};
  LogCallback log = {};  // which engine and why, memory not registered, memory given up for lost
  IoObserver observer = {};  // what drives did, operation by operation: for a trace
  // CPUs that the threads may run on (0 to 1023): those near the drive where a machine has several
  // NUMA nodes; the rings then lie there too. Empty: any. kInvalid when none of them may be used.
  std::vector<int> cpus = {};
};

// What is wrong with the options, in words that name the field; kInvalid.
SPILLWAY_API Result<void> validate(const EngineOptions& options);

struct EngineStats {
  std::uint64_t read_bytes = 0;     // bytes that reached their Buffer, bounce included
  std::uint64_t written_bytes = 0;  // bytes that left for the file
  std::uint64_t read_operations = 0;
  std::uint64_t write_operations = 0;
  std::uint64_t short_transfers = 0;
  std::uint64_t retries = 0;
  std::uint64_t system_calls = 0;
};

}  // namespace spillway::aio
