#include "tools/spillway/checkpoint/commands.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/checkpoint.h>
#include <spillway/trainer/model.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tools/spillway/common/error_text.h"

namespace spillway::tools {
namespace {

using nlohmann::ordered_json;
using pinned_pool::format_bytes;
using trainer::Checkpoint;
using trainer::CheckpointManifest;
using trainer::CheckpointParameter;

struct Options {
  std::string path;
  bool json = false;
};

int complain(const char* command, const Error& error) {
  fmt::print(stderr, "spillway {}: {}\n", command, error_text(error));
  return 1;
}

int verify(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  auto checkpoint = open_checkpoint_at(options.path);
  if (!checkpoint) return complain("verify", checkpoint.error());
  const std::uint64_t bad =
      checkpoint->verify([](const Error& error) { complain("verify", error); });
  if (bad > 0) {
    fmt::print(stderr, "spillway verify: {}: {} bad {}\n", checkpoint->directory().string(), bad,
               bad == 1 ? "block" : "blocks");
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  fmt::print("{}: every byte is what was written ({} in {} {}, {:.1f} s)\n",
             checkpoint->directory().string(), format_bytes(checkpoint->size_bytes()),
             checkpoint->shards().size(), checkpoint->shards().size() == 1 ? "shard" : "shards",
             took.count());
  return 0;
}

std::uint64_t elements_of(const CheckpointManifest& manifest) {
  std::uint64_t elements = 0;
  for (const CheckpointParameter& parameter : manifest.parameters) {
    elements += trainer::element_count(parameter);
  }
  return elements;
}

std::string shape_text(const CheckpointParameter& parameter) {
  std::string text;
  for (const std::int64_t size : parameter.shape) {
    text += (text.empty() ? "" : " x ") + std::to_string(size);
  }
  return text;
}

ordered_json as_json(const Checkpoint& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  ordered_json json{{"path", checkpoint.directory().string()},
                    {"step", manifest.step},
                    {"samples_seen", manifest.samples_seen},
                    {"seed", manifest.seed},
                    {"world_size", manifest.world_size},
                    {"optimizer", to_string(manifest.format.kind)},
                    {"dtype", to_string(manifest.format.weights)},
                    {"state_dtype", to_string(manifest.format.states)},
                    {"training", manifest.training},
                    {"parameter_count", elements_of(manifest)},
                    {"size_bytes", checkpoint.size_bytes()}};
  for (std::uint32_t i = 0; i < manifest.parameters.size(); ++i) {
    const CheckpointParameter& parameter = manifest.parameters[i];
    json["parameters"].push_back({{"name", parameter.name},
                                  {"shape", parameter.shape},
                                  {"frozen", parameter.frozen},
                                  {"size_bytes", checkpoint.parameter_bytes(i)}});
  }
  for (const trainer::ShardIndex& shard : checkpoint.shards()) {
    for (const trainer::ShardFile& file : shard.files) {
      json["files"].push_back({{"name", file.name}, {"size_bytes", file.size_bytes}});
    }
  }
  return json;
}

Result<void> print_text(const Checkpoint& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  std::string summary;
  if (!manifest.model.empty()) {
    const auto model = trainer::read_saved_model(manifest.model, checkpoint.directory().string());
    if (!model && model.error().kind != ErrorKind::kUnsupported) {
      return tl::unexpected(model.error());
    }
    summary = model ? (*model)->summary() : model.error().detail;
  }
  fmt::print("{}\n", checkpoint.directory().string());
  fmt::print("  step {} ({} samples), seed {}, saved by {} {}\n", manifest.step,
             manifest.samples_seen, manifest.seed, manifest.world_size,
             manifest.world_size == 1 ? "rank" : "ranks");
  fmt::print("  {} with states in {}, weights in {}\n", to_string(manifest.format.kind),
             to_string(manifest.format.states), to_string(manifest.format.weights));
  if (!summary.empty()) fmt::print("  {}\n", summary);
  for (const auto& [name, value] : manifest.training) fmt::print("  {}: {}\n", name, value);
  fmt::print("  {:.2f} M parameters, {}\n\n", static_cast<double>(elements_of(manifest)) / 1e6,
             format_bytes(checkpoint.size_bytes()));
  fmt::print("  {:<44}{:>20}{:>12}\n", "parameter", "shape", "bytes");
  for (std::uint32_t i = 0; i < manifest.parameters.size(); ++i) {
    const CheckpointParameter& parameter = manifest.parameters[i];
    fmt::print("  {:<44}{:>20}{:>12}{}\n", parameter.name, shape_text(parameter),
               format_bytes(checkpoint.parameter_bytes(i)), parameter.frozen ? "  frozen" : "");
  }
  return {};
}

int inspect(const Options& options) {
  const auto checkpoint = open_checkpoint_at(options.path);
  if (!checkpoint) return complain("inspect", checkpoint.error());
  if (options.json) {
    fmt::print("{}\n",
               as_json(*checkpoint).dump(2, ' ', false, ordered_json::error_handler_t::replace));
  } else if (const auto printed = print_text(*checkpoint); !printed) {
    return complain("inspect", printed.error());
  }
  return 0;
}

std::shared_ptr<Options> take_path(CLI::App& command) {
  auto options = std::make_shared<Options>();
  command
      .add_option("PATH", options->path,
                  "A checkpoint, or a directory of checkpoints: then the newest one")
      ->required();
  return options;
}

}  // namespace

Result<Checkpoint> open_checkpoint_at(const std::filesystem::path& path) {
  const auto steps = trainer::list_checkpoints(path);
  return Checkpoint::open(steps.empty() ? path : path / trainer::checkpoint_name(steps.back()));
}

void add_verify(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand(
      "verify", "Compare every byte of a checkpoint with its checksums (exit code 1: not whole)");
  const auto options = take_path(*command);
  command->footer(
      "Names each block that is not what was written: file, offset, parameters and planes.\n"
      "Example:\n"
      "  spillway verify saved/step-00000100");
  command->callback([options, &exit_code] { exit_code = verify(*options); });
}

void add_inspect(CLI::App& program, int& exit_code) {
  CLI::App* command =
      program.add_subcommand("inspect", "Show what is in a checkpoint: step, model, parameters");
  const auto options = take_path(*command);
  command->add_flag("--json", options->json, "Print it as JSON");
  command->footer(
      "Reads the texts alone; 'spillway verify' reads everything.\n"
      "Example:\n"
      "  spillway inspect saved --json");
  command->callback([options, &exit_code] { exit_code = inspect(*options); });
}

}  // namespace spillway::tools
