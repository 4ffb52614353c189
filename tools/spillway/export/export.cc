#include "tools/spillway/export/export.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/weight_export.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tools/spillway/checkpoint/commands.h"
#include "tools/spillway/common/error_text.h"

namespace spillway::tools {
namespace {

constexpr const char* kOwnNames = "names";

struct Options {
  std::string path;
  std::string out;
  std::string format = "safetensors";
  std::string dtype = "fp32";
  std::string layout = trainer::default_family().name();
  std::uint64_t max_shard_bytes = 5'000'000'000;
};

int complain(const Error& error) {
  fmt::print(stderr, "spillway export: {}\n", error_text(error));
  return 1;
}

int run(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  auto checkpoint = open_checkpoint_at(options.path);
  if (!checkpoint) return complain(checkpoint.error());
  trainer::ExportOptions wanted;
  wanted.dtype = options.dtype == "bf16" ? trainer::Dtype::kBf16 : trainer::Dtype::kFp32;
  wanted.layout = trainer::find_family(options.layout);  // none: kOwnNames
  wanted.max_shard_bytes = options.max_shard_bytes;
  auto report = export_weights(*checkpoint, options.out, wanted);
  if (!report) {
    Error error = report.error();
    if (error.operation.starts_with(trainer::kLayOutAs)) {
      error.detail += "; --layout names writes each parameter under its own name";
    }
    return complain(error);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  fmt::print("{}: {} tensors of step {} in {}, {} in {} {}, {:.1f} s\n", options.out,
             report->tensors, checkpoint->manifest().step, options.dtype,
             pinned_pool::format_bytes(report->bytes), report->files,
             report->files == 1 ? "file" : "files", took.count());
  return 0;
}

}  // namespace

void add_export(CLI::App& program, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "export", "Write a checkpoint's weights as safetensors, in Hugging Face's " +
                    trainer::default_family().title() + " layout");
  std::vector<std::string> layouts;
  std::string layouts_text;
  for (const trainer::ModelFamily* family : trainer::model_families()) {
    layouts.push_back(family->name());
    layouts_text +=
        (layouts_text.empty() ? "" : "; ") + family->name() + ": " + family->files_text();
  }
  layouts.emplace_back(kOwnNames);
  command
      ->add_option("PATH", options->path,
                   "A checkpoint, or a directory of checkpoints: then the newest one")
      ->required();
  command->add_option("--out", options->out, "Directory to make; it must not exist")->required();
  command->add_option("--format", options->format, "File format")
      ->check(CLI::IsMember({"safetensors"}))
      ->capture_default_str();
  command
      ->add_option("--dtype", options->dtype,
                   "fp32: the master weights, exactly; bf16: the weights training computes with")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  command
      ->add_option("--layout", options->layout,
                   layouts_text + "; " + kOwnNames + ": parameters as they are, of any model")
      ->check(CLI::IsMember(layouts))
      ->capture_default_str();
  command
      ->add_option(
          "--max-shard-size", options->max_shard_bytes,
          "Most bytes of a file's tensors; a larger model is split, with an index (500MB, 5GB)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->check(CLI::PositiveNumber)
      ->default_str("5GB");
  command->footer(
      "Streams: a model larger than memory is exported in some 100 MB. Every byte is compared "
      "with\n"
      "its checksum; the directory gets its name when all of it is durable.\n"
      "Examples:\n"
      "  spillway export saved --out model\n"
      "  spillway export saved/step-00000100 --out model --format safetensors --dtype bf16\n"
      "  python3 -c \"import transformers as t; "
      "t.GPT2LMHeadModel.from_pretrained('model')\"\n"
      "  spillway train --init-from model --data plays.txt");
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace spillway::tools
