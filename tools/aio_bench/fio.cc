#include "fio.h"

#include <fmt/format.h>
#include <unistd.h>

#include <spillway/pinned_pool/limits.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace spillway::aio_bench {
namespace {

// What a shell command prints; empty when it fails.
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

// The files have no name any more; /proc gives them one.
std::string names_of(const TestFile& test) {
  std::string names;
  for (const aio::File& file : test.files()) {
    names += fmt::format("{}/proc/{}/fd/{}", names.empty() ? "" : ":", getpid(), file.fd());
  }
  return names;
}

}  // namespace

std::string fio_version() {
  const std::string text = output_of("fio --version 2>/dev/null");
  return text.substr(0, text.find('\n'));
}

bool fio_has_huge_pages(const Setting& setting) {
  constexpr std::uint64_t kToSpare = 32 << 20;
  const auto limits = pinned_pool::MemoryLimits::read();
  return limits.huge_page_bytes == 2 << 20 &&
         limits.free_huge_page_bytes >= setting.in_flight_bytes() + kToSpare;
}

Result<double> run_fio(const TestFile& test, Workload workload, const Setting& setting,
                       int read_percent, double seconds) {
  // fio deals evenly: no more of each file than the shortest has.
  std::uint64_t share = test.size_bytes();
  for (const aio::File& file : test.files()) {
    share = std::min(share, file.size_bytes().value_or(0));
  }
  const char* kind = workload == Workload::kMix ? "rw" : name_of(workload);
  // Each job has a part of the file to itself, as the engine's threads never move the same bytes.
  const std::uint64_t part =
      share / setting.thread_count / setting.block_size_bytes * setting.block_size_bytes;
  const std::string command = fmt::format(
      "fio --name=twin --output-format=json --ioengine=io_uring --direct=1 --fixedbufs=1"
      " --registerfiles=1 --allow_file_create=0 --fallocate=none --thread --group_reporting"
      " --file_service_type=roundrobin --time_based --runtime={}ms --filename={} --rw={}"
      " --rwmixread={} --bs={} --iodepth={} --iodepth_batch={} --iodepth_batch_complete_min=1"
      " --iodepth_batch_complete_max={} --numjobs={} --size={} --offset_increment={}{} 2>/dev/null",
      static_cast<long>(seconds * 1000), names_of(test), kind, read_percent,
      setting.block_size_bytes, setting.queue_depth, setting.queue_depth, setting.queue_depth,
      setting.thread_count, part * test.files().size(), part,
      fio_has_huge_pages(setting) ? " --iomem=mmaphuge --hugepage-size=2M" : "");
  const auto report = nlohmann::json::parse(output_of(command), nullptr, false);
  if (report.is_discarded() || !report.contains("jobs")) {
    return make_error(ErrorKind::kIo, "fio", test.files().front().path(), "it failed: " + command);
  }
  double gb = 0, runtime = 0;
  for (const char* direction : {"read", "write"}) {
    const auto& moved = report["jobs"][0][direction];
    gb += moved["io_bytes"].get<double>() / 1e9;
    runtime = std::max(runtime, moved["runtime"].get<double>() / 1e3);
  }
  if (gb <= 0 || runtime <= 0) {
    return make_error(ErrorKind::kIo, "fio", test.files().front().path(), "it moved nothing");
  }
  return gb / runtime;
}

}  // namespace spillway::aio_bench
