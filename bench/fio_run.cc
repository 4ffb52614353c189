#include "fio_run.h"

#include <unistd.h>

#include <spillway/pinned_pool/limits.h>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace spillway::bench {

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

bool huge_pages_are_free() {
  constexpr std::uint64_t kEnough = 64 << 20;  // 32 operations of 1 MiB, and room to spare
  return pinned_pool::MemoryLimits::read().free_huge_page_bytes >= kEnough;
}

Result<Run> run_fio(const aio::File& file, std::uint64_t size_bytes, const Setting& setting,
                    FioStyle style) {
  const bool read = setting.direction == aio::Direction::kRead;
  // The file has no name any more; /proc gives it one.
  const std::string path = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file.fd());
  const std::string depth = std::to_string(setting.queue_depth);
  std::string command =
      "fio --name=twin --output-format=json --ioengine=io_uring --direct=1 --fixedbufs=1"
      " --registerfiles=1 --allow_file_create=0 --fallocate=none --numjobs=1 --filename=" +
      path + " --size=" + std::to_string(size_bytes) + " --rw=" + (read ? "read" : "write") +
      " --bs=" + std::to_string(setting.block_size_bytes) + " --iodepth=" + depth;
  if (style == FioStyle::kTuned) {
    command += " --iodepth_batch=" + depth +
               " --iodepth_batch_complete_min=1 --iodepth_batch_complete_max=" + depth;
    if (huge_pages_are_free()) command += " --iomem=mmaphuge --hugepage-size=2M";
  }
  const auto report = nlohmann::json::parse(output_of(command), nullptr, false);
  if (report.is_discarded() || !report.contains("jobs")) {
    return make_error(ErrorKind::kIo, "fio", file.path(), "it failed: " + command);
  }
  const auto& job = report["jobs"][0];
  const auto& moved = job[read ? "read" : "write"];
  const double seconds = moved["runtime"].get<double>() / 1e3;
  const std::uint64_t bytes = moved["io_bytes"].get<std::uint64_t>();
  if (bytes != size_bytes || seconds <= 0) {
    return make_error(ErrorKind::kIo, "fio", file.path(),
                      "it moved " + std::to_string(bytes) + " bytes, not all");
  }
  const double cpu_percent = job["usr_cpu"].get<double>() + job["sys_cpu"].get<double>();
  return Run{.seconds = seconds,
             .cpu_seconds = cpu_percent / 100 * job["job_runtime"].get<double>() / 1e3,
             .bytes = bytes};
}

}  // namespace spillway::bench
