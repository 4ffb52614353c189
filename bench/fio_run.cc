#include "fio_run.h"

#include <unistd.h>

#include <spillway/pinned_pool/limits.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

namespace spillway::bench {
namespace {

const char* rw_of(Mix mix) {
  if (mix == Mix::kRead) return "read";
  if (mix == Mix::kWrite) return "write";
  return mix == Mix::kHalf ? "rw --rwmixread=50" : "rw --rwmixread=70";
}

std::string fio_command(const aio::File& file, std::uint64_t size_bytes, const Setting& setting) {
  // The file has no name any more; /proc gives it one.
  const std::string path = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file.fd());
  const std::string depth = std::to_string(setting.queue_depth);
  const std::string part = std::to_string(size_bytes / setting.thread_count);
  std::string command =
      "fio --name=twin --output-format=json --thread --ioengine=io_uring --direct=1 --fixedbufs=1"
      " --registerfiles=1 --allow_file_create=0 --fallocate=none --group_reporting --filename=" +
      path + " --size=" + part + " --io_size=" + part + " --offset_increment=" + part +
      " --numjobs=" + std::to_string(setting.thread_count) + " --rw=" + rw_of(setting.mix) +
      " --bs=" + std::to_string(setting.block_size_bytes) + " --iodepth=" + depth +
      " --iodepth_batch=" + depth +
      " --iodepth_batch_complete_min=1 --iodepth_batch_complete_max=" + depth;
  const std::uint64_t buffers =
      std::uint64_t{setting.block_size_bytes} * setting.queue_depth * setting.thread_count;
  if (huge_pages_are_free(buffers + (8 << 20))) {
    command += " --iomem=mmaphuge --hugepage-size=2M";
  }
  return command;
}

}  // namespace

std::string output_of(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "re");
  if (pipe == nullptr) return "";
  std::string text;
  std::array<char, 4096> buffer;
  for (std::size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    text.append(buffer.data(), n);
  }
  return pclose(pipe) == 0 ? text : "";
}

std::string fio_version() {
  const std::string text = output_of("fio --version 2>/dev/null");
  return text.substr(0, text.find('\n'));
}

bool huge_pages_are_free(std::uint64_t size_bytes) {
  return pinned_pool::MemoryLimits::read().free_huge_page_bytes >= size_bytes;
}

Result<Run> run_fio(const aio::File& file, std::uint64_t size_bytes, const Setting& setting) {
  const std::string command = fio_command(file, size_bytes, setting);
  const auto report = nlohmann::json::parse(output_of(command), nullptr, false);
  if (report.is_discarded() || !report.contains("jobs")) {
    return make_error(ErrorKind::kIo, "fio", file.path(), "it failed: " + command);
  }
  const auto& job = report["jobs"][0];  // all of them, by group_reporting
  const auto of = [&](const char* key, auto value) {
    return std::pair(job["read"][key].get<decltype(value)>(),
                     job["write"][key].get<decltype(value)>());
  };
  const auto [read_ms, write_ms] = of("runtime", 0.0);
  const auto [read_bytes, write_bytes] = of("io_bytes", std::uint64_t{0});
  const double seconds = std::max(read_ms, write_ms) / 1e3;
  if (read_bytes + write_bytes != size_bytes || seconds <= 0) {
    return make_error(ErrorKind::kIo, "fio", file.path(),
                      "it moved " + std::to_string(read_bytes + write_bytes) + " bytes, not all");
  }
  const double cpu_percent = job["usr_cpu"].get<double>() + job["sys_cpu"].get<double>();
  return Run{.seconds = seconds,
             .cpu_seconds = cpu_percent / 100 * job["job_runtime"].get<double>() / 1e3,
             .bytes = size_bytes};
}

std::uint64_t fio_system_calls(const aio::File& file, std::uint64_t size_bytes,
                               const Setting& setting) {
  const std::string table =
      output_of("strace -f -c -e trace=io_uring_enter -- " +
                fio_command(file, size_bytes, setting) + " 2>&1 >/dev/null | grep io_uring_enter");
  // "% time  seconds  usecs/call  calls  [errors]  syscall"
  std::istringstream row(table);
  std::string percent, seconds, each;
  std::uint64_t calls = 0;
  row >> percent >> seconds >> each >> calls;
  return row ? calls : 0;
}

}  // namespace spillway::bench
