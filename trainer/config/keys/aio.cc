// The I/O engine, and what aio_bench measured when it tuned the block for a drive.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

template <typename T>
KeyRule tuned(const std::string& name, T TunedDrive::*measured) {
  return {.path = "aio.tuned." + name,
          .standard = "null",
          .note = "written by aio_bench; not a DeepSpeed key",
          .may_be_null = true,
          .into = member(&Config::tuned, measured)};
}

}  // namespace

std::vector<KeyRule> aio_keys() {
  using aio::BackendKind, aio::EngineOptions;
  return {
      {.path = "aio.block_size",
       .note = "bytes; O_DIRECT moves whole pages of 4096",
       .minimum = 4096,
       .maximum = 1 << 30,
       .multiple_of = 4096,
       .into = member(&Config::aio, &EngineOptions::block_size_bytes)},
      {.path = "aio.queue_depth",
       .note = "operations in flight per thread",
       .minimum = 1,
       .maximum = 4096,
       .into = member(&Config::aio, &EngineOptions::queue_depth)},
      {.path = "aio.intra_op_parallelism",
       .note = "I/O threads, one ring each",
       .deprecated_names = {"aio.thread_count", "aio.num_threads"},
       .minimum = 1,
       .maximum = 64,
       .into = member(&Config::aio, &EngineOptions::thread_count)},
      {.path = "aio.single_submit",
       .note = "one system call per operation",
       .into = member(&Config::aio, &EngineOptions::single_submit)},
      {.path = "aio.backend",
       .note = "not a DeepSpeed key",
       .into = choice<BackendKind>({{"auto", BackendKind::kAuto},
                                    {"io_uring", BackendKind::kIoUring},
                                    {"threads", BackendKind::kThreadPool}},
                                   &Config::aio, &EngineOptions::backend)},
      tuned("device", &TunedDrive::device),
      tuned("filesystem", &TunedDrive::filesystem),
      tuned("read_gb_per_second", &TunedDrive::read_gb_per_second),
      tuned("write_gb_per_second", &TunedDrive::write_gb_per_second),
      tuned("mix_gb_per_second", &TunedDrive::mix_gb_per_second),
      tuned("spread", &TunedDrive::spread),
  };
}

}  // namespace spillway::trainer
