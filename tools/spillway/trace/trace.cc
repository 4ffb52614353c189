#include "tools/spillway/trace/trace.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <memory>
#include <string>

#include "tools/spillway/common/error_text.h"
#include "tools/spillway/trace/drawing.h"
#include "tools/spillway/trace/file.h"
#include "tools/spillway/trace/summary.h"

namespace spillway::tools {
namespace {

struct Options {
  std::string trace;
  std::string drawing;
  bool json = false;
};

// An SVG that is already there is replaced; anything else is left alone.
Result<void> write_drawing(const std::string& path, const std::string& svg) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored)) {
    std::ifstream existing(path);
    std::string opening(4, '\0');
    existing.read(opening.data(), 4);
    if (existing.gcount() > 0 && opening != "<svg" && opening != "<?xm") {
      return make_error(ErrorKind::kInvalid, "write drawing", path,
                        "the file exists and is no SVG: it is left alone, name another");
    }
  }
  errno = 0;
  std::ofstream file(path, std::ios::trunc);
  file << svg;
  file.close();
  if (!file) return errno_error("write drawing", path, errno == 0 ? EIO : errno);
  return {};
}

void run(const Options& options, int& exit_code) {
  const auto done = read_trace(options.trace).and_then([&](const TraceFile& trace) -> Result<void> {
    const TraceSummary summary = summarise(trace);
    fmt::print("{}", options.json ? as_json(summary) + "\n" : as_text(summary));
    if (options.drawing.empty()) return {};
    return write_drawing(options.drawing, draw_trace(trace));
  });
  if (done) return;
  fmt::print(stderr, "spillway trace: {}\n", error_text(done.error()));
  exit_code = 1;
}

}  // namespace

void add_trace(CLI::App& program, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "trace", "Draw a trace of 'spillway train --trace', and say how much of what was hidden");
  command->add_option("FILE", options->trace, "What 'spillway train --trace FILE' wrote")
      ->required();
  command->add_option("-o,--output", options->drawing, "SVG to draw");
  command->add_flag("--json", options->json, "Print the summary as JSON");
  command->footer(
      "Example:\n"
      "  spillway train --data plays.txt --config nvme.json --steps 5 --trace run.json\n"
      "  spillway trace run.json -o run.svg");
  command->callback([options, &exit_code] { run(*options, exit_code); });
}

}  // namespace spillway::tools
