#include "tools/spillway/doctor/doctor.h"

#include <fmt/format.h>
#include <spillway/version.h>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/spillway/doctor/checks.h"

namespace spillway::tools {
namespace {

struct Options {
  std::string path = ".";
  bool json = false;
};

void print_json(const std::vector<CheckGroup>& groups) {
  nlohmann::ordered_json out;
  out["version"] = SPILLWAY_VERSION_STRING;
  for (const CheckGroup& group : groups) {
    for (const aio::Capability& capability : group.capabilities) {
      out["capabilities"].push_back({{"group", group.title},
                                     {"name", capability.name},
                                     {"ok", capability.available},
                                     {"reason", capability.reason},
                                     {"fix", capability.fix}});
    }
  }
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const std::vector<CheckGroup>& groups) {
  fmt::print("spillway {}\n", SPILLWAY_VERSION_STRING);
  for (const CheckGroup& group : groups) {
    fmt::print("\n{}\n", group.title);
    for (const aio::Capability& capability : group.capabilities) {
      fmt::print("  {}  {:<34} {}\n", capability.available ? "OK" : "NO", capability.name,
                 capability.reason);
      if (!capability.fix.empty()) fmt::print("      {:<34} -> {}\n", "", capability.fix);
    }
  }
}

}  // namespace

void add_doctor(CLI::App& program) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("doctor", "Say what this machine can do, and what would help");
  command->add_option("--path", options->path, "Directory meant for swap files")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "The exit code is 0 whatever is missing.\n"
      "Example:\n  spillway doctor --path /local_nvme");
  command->callback([options] {
    const std::vector<CheckGroup> groups = check_machine(options->path);
    if (options->json) {
      print_json(groups);
    } else {
      print_text(groups);
    }
  });
}

}  // namespace spillway::tools
