#include "tools/fio/fio_job.h"

#include <unistd.h>

#include <spillway/pinned_pool/limits.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace spillway::fio {
namespace {

// The files have no name any more; /proc gives them one.
std::string names_of(std::span<const aio::File> files) {
  std::string names;
  for (const aio::File& file : files) {
    if (!names.empty()) names += ":";
    names += "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file.fd());
  }
  return names;
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

std::string version() {
  const std::string text = output_of("fio --version 2>/dev/null");
  return text.substr(0, text.find('\n'));
}

bool has_huge_pages(std::uint64_t buffer_bytes) {
  constexpr std::uint64_t kToSpare = 32 << 20;
  const auto limits = pinned_pool::MemoryLimits::read();
  return limits.huge_page_bytes == 2 << 20 &&
         limits.free_huge_page_bytes >= buffer_bytes + kToSpare;
}

std::string command_of(const Job& job) {
  const auto option = [](const char* name, std::uint64_t value) {
    return std::string(" --") + name + "=" + std::to_string(value);
  };
  std::string command =
      "fio --name=twin --output-format=json --ioengine=io_uring --direct=1 --fixedbufs=1"
      " --registerfiles=1 --allow_file_create=0 --fallocate=none --thread --group_reporting"
      " --file_service_type=roundrobin --filename=" +
      names_of(job.files) + " --rw=" + job.workload;
  if (job.workload == "rw") {
    command += option("rwmixread", static_cast<std::uint64_t>(job.read_percent));
  }
  const std::uint64_t all_parts = job.part_bytes * job.files.size();  // of a thread
  command += option("bs", job.block_size_bytes) + option("iodepth", job.queue_depth) +
             option("iodepth_batch", job.queue_depth) + option("iodepth_batch_complete_min", 1) +
             option("iodepth_batch_complete_max", job.queue_depth) +
             option("numjobs", job.thread_count) + option("size", all_parts) +
             option("offset_increment", job.part_bytes);
  if (job.seconds > 0) {
    command += " --time_based --runtime=" +
               std::to_string(static_cast<std::uint64_t>(job.seconds * 1000)) + "ms";
  } else {
    command += option("io_size", all_parts);
  }
  if (has_huge_pages(job.buffer_bytes())) command += " --iomem=mmaphuge --hugepage-size=2M";
  return command;
}

Result<Moved> run(const Job& job) {
  const std::string command = command_of(job);
  const auto failed = [&](const std::string& why) {
    return make_error(ErrorKind::kIo, "fio", job.files.front().path(), why + command);
  };
  const auto report = nlohmann::json::parse(output_of(command + " 2>/dev/null"), nullptr, false);
  if (report.is_discarded() || !report.contains("jobs")) return failed("it failed: ");
  const auto& all = report["jobs"][0];  // by group_reporting
  Moved moved;
  for (const char* direction : {"read", "write"}) {
    moved.bytes += all[direction]["io_bytes"].get<std::uint64_t>();
    moved.seconds = std::max(moved.seconds, all[direction]["runtime"].get<double>() / 1e3);
  }
  if (moved.bytes == 0 || moved.seconds <= 0) return failed("it moved nothing: ");
  const double cpu_percent = all["usr_cpu"].get<double>() + all["sys_cpu"].get<double>();
  moved.cpu_seconds = cpu_percent / 100 * all["job_runtime"].get<double>() / 1e3;
  return moved;
}

}  // namespace spillway::fio
