#include "fio_run.h"

#include <sstream>
#include <string>

#include "tools/fio/fio_job.h"

namespace spillway::bench {
namespace {

fio::Job job_of(const aio::File& file, std::uint64_t size_bytes, const Setting& setting) {
  const char* workload = setting.mix == Mix::kRead    ? "read"
                         : setting.mix == Mix::kWrite ? "write"
                                                      : "rw";
  return {.files = {&file, 1},
          .workload = workload,
          .read_percent = setting.mix == Mix::kHalf ? 50 : 70,
          .block_size_bytes = setting.block_size_bytes,
          .queue_depth = setting.queue_depth,
          .thread_count = setting.thread_count,
          .part_bytes = size_bytes / setting.thread_count};
}

}  // namespace

Result<Run> run_fio(const aio::File& file, std::uint64_t size_bytes, const Setting& setting) {
  auto moved = fio::run(job_of(file, size_bytes, setting));
  if (!moved) return tl::unexpected(std::move(moved.error()));
  if (moved->bytes != size_bytes) {
    return make_error(ErrorKind::kIo, "fio", file.path(),
                      "it moved " + std::to_string(moved->bytes) + " bytes, not all");
  }
  return Run{.seconds = moved->seconds, .cpu_seconds = moved->cpu_seconds, .bytes = moved->bytes};
}

std::uint64_t fio_system_calls(const aio::File& file, std::uint64_t size_bytes,
                               const Setting& setting) {
  const std::string table = fio::output_of("strace -f -c -e trace=io_uring_enter -- " +
                                           fio::command_of(job_of(file, size_bytes, setting)) +
                                           " 2>&1 >/dev/null | grep io_uring_enter");
  // "% time  seconds  usecs/call  calls  [errors]  syscall"
  std::istringstream row(table);
  std::string percent, seconds, each;
  std::uint64_t calls = 0;
  row >> percent >> seconds >> each >> calls;
  return row ? calls : 0;
}

}  // namespace spillway::bench
