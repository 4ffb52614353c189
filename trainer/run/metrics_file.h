// MetricsFile: a JSON object per step, one a line.
#pragma once

#include <spillway/trainer/run_report.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace spillway::trainer {

class MetricsFile {
 public:
  // Replaces an existing file only if it holds metrics, and refuses any other (kInvalid). Keeps the
  // lines of the first `done` steps, if that is not 0. Throws Failure.
  MetricsFile(const std::filesystem::path& path, std::uint64_t done);

  // Throws Failure if the line cannot be written (kNoSpace: a full disk).
  void write(const StepFigures& figures);

 private:
  std::string path_;
  std::ofstream file_;
};

}  // namespace spillway::trainer
