// The spillway program: its subcommands, one file each.
#include <spillway/version.h>
#include <CLI/CLI.hpp>
#include <cstdio>

#include "tools/spillway/checkpoint/commands.h"
#include "tools/spillway/doctor/doctor.h"
#include "tools/spillway/estimate/estimate.h"
#include "tools/spillway/export/export.h"
#include "tools/spillway/trace/trace.h"
#include "tools/spillway/train/train.h"

int main(int argc, char** argv) {
  CLI::App program("Spillway streams model states between GPU, CPU memory and NVMe", "spillway");
  program.set_version_flag("--version", "spillway " SPILLWAY_VERSION_STRING);
  program.require_subcommand(1);
  program.footer(
      "Examples:\n"
      "  spillway doctor --path /local_nvme\n"
      "  spillway estimate --model gpt-lite --config nvme.json\n"
      "  spillway train --model gpt-lite --data plays.txt --config nvme.json --steps 20\n"
      "  spillway trace run.json -o run.svg\n"
      "  spillway verify saved/step-00000100\n"
      "  spillway export saved --out model\n"
      "'spillway COMMAND --help' tells more.");
  int exit_code = 0;
  spillway::tools::add_doctor(program);
  spillway::tools::add_estimate(program, exit_code);
  spillway::tools::add_train(program, exit_code);
  spillway::tools::add_trace(program, exit_code);
  spillway::tools::add_verify(program, exit_code);
  spillway::tools::add_inspect(program, exit_code);
  spillway::tools::add_export(program, exit_code);
  CLI11_PARSE(program, argc, argv);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::perror("spillway: write to standard output");
    return 1;
  }
  return exit_code;
}
