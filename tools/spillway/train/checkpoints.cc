#include "tools/spillway/train/checkpoints.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/failure.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "tools/spillway/train/signals.h"

namespace spillway::tools {
namespace {

using std::filesystem::path;
using trainer::Failure;
using trainer::value_or_throw;

constexpr const char* kResume = "resume";

[[noreturn]] void refuse(const path& where, std::string why) {
  throw Failure(make_error(ErrorKind::kInvalid, kResume, where.string(), std::move(why)).value());
}

}  // namespace

void add_checkpoint_options(CLI::App& command, TrainOptions& options) {
  CLI::Option* directory = command.add_option(
      "--checkpoint-dir", options.checkpoint_dir,
      "Save checkpoints here: at the end, each --checkpoint-every steps, and when SIGTERM or "
      "SIGUSR1 asks to stop (exit code 0)");
  command
      .add_option("--checkpoint-every", options.checkpoint_every,
                  "Save each so many steps (0: not while the run goes on)")
      ->needs(directory)
      ->capture_default_str();
  command.add_option("--keep", options.keep, "Newest checkpoints that stay (0: all)")
      ->needs(directory)
      ->capture_default_str();
  command
      .add_option("--keep-every", options.keep_every,
                  "Checkpoints of each so many steps stay for good (0: none)")
      ->needs(directory)
      ->capture_default_str();
  command.add_option("--resume", options.resume,
                     "auto: from the newest checkpoint in --checkpoint-dir, if there is one; no: "
                     "from the start; PATH: from this one [auto]");
}

TrainCheckpoints::TrainCheckpoints(const TrainOptions& options, const TrainInputs& inputs,
                                   trainer::Communicator& ranks,
                                   std::function<void(const std::string&)> say)
    : options_(options),
      inputs_(inputs),
      ranks_(ranks),
      say_(std::move(say)),
      keep_{.newest = options.keep, .every = options.keep_every} {
  if (options_.resume == "auto" && !writes()) {
    refuse({}, "--resume auto looks for checkpoints in --checkpoint-dir: name it");
  }
  if (writes()) open_directory();
  const path chosen = choose();
  if (!chosen.empty()) open(chosen);
  if (chosen.empty() && writes()) {
    tell("no checkpoint in " + options_.checkpoint_dir + ": a fresh start");
  }
}

void TrainCheckpoints::tell(const std::string& line) const {
  if (ranks_.rank() == 0) say_(line);
}

void TrainCheckpoints::open_directory() {
  if (ranks_.rank() == 0) {
    directory_ = value_or_throw(trainer::CheckpointDirectory::open(options_.checkpoint_dir));
    for (const std::string& note : directory_->notes()) say_(note);
  }
  ranks_.barrier();  // the others look when it is there, and tidy
}

path TrainCheckpoints::choose() const {
  const auto newest_of = [](const path& directory) -> path {
    const auto steps = trainer::list_checkpoints(directory);
    return steps.empty() ? path() : directory / trainer::checkpoint_name(steps.back());
  };
  const path newest = writes() ? newest_of(options_.checkpoint_dir) : path();
  if (options_.resume.empty() || options_.resume == "auto") return newest;
  if (options_.resume != "no") {
    const path within = newest_of(options_.resume);
    return within.empty() ? path(options_.resume) : within;
  }
  if (!newest.empty()) {
    refuse(newest,
           "--resume no, but the directory holds checkpoints of an earlier run: go on from "
           "them (--resume auto) or name another directory");
  }
  return {};
}

Failure TrainCheckpoints::refusal(const Error& error, const path& path) const {
  Error told = error;
  const auto step = trainer::step_of_name(path.filename().string());
  auto steps = trainer::list_checkpoints(path.parent_path());
  std::erase_if(steps, [&](std::uint64_t other) { return !step || other >= *step; });
  if (!steps.empty()) {
    told.detail += (told.detail.empty() ? "" : "; ") + path.filename().string() +
                   " is not used. To go on from the one before: --resume " +
                   (path.parent_path() / trainer::checkpoint_name(steps.back())).string();
  }
  return Failure(std::move(told));
}

void TrainCheckpoints::open(const path& path) {
  auto checkpoint = trainer::Checkpoint::open(path);
  if (!checkpoint) throw refusal(checkpoint.error(), path);
  from_ = std::move(*checkpoint);
}

std::uint64_t TrainCheckpoints::resume(trainer::ZeroEngine& engine) {
  std::uint64_t done = 0;
  if (from_) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::string> notes;
    try {
      notes = trainer::load_checkpoint(engine.quiet_states(), *from_);
    } catch (const Failure& failure) {
      if (failure.error().kind != ErrorKind::kCorrupt) throw;
      throw refusal(failure.error(), from_->directory());
    }
    const trainer::CheckpointManifest& manifest = from_->manifest();
    done = done_before_ = manifest.step;
    samples_before_ = manifest.samples_seen;
    engine.resume_after(done);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    tell(fmt::format("resumed {} of {} ranks in {:.1f} s", from_->directory().string(),
                     manifest.world_size, took.count()));
    for (const std::string& note : notes) tell("note: " + note);
    const auto now = training_facts();
    for (const auto& [name, value] : manifest.training) {
      const auto other = now.find(name);
      if (other == now.end() || other->second == value) continue;
      tell("note: " + name + " is " + other->second + ", the checkpoint was made with " + value);
    }
    if (directory_) {
      for (const std::string& line :
           value_or_throw(directory_->set_aside_newer_than(done, *files_))) {
        say_(line);
      }
    }
    ranks_.barrier();  // nobody saves before that
    from_.reset();
  }
  if (writes() && done < options_.steps) check_space(engine, done);
  return done;
}

void TrainCheckpoints::check_space(trainer::ZeroEngine& engine, std::uint64_t done) {
  const std::uint64_t each = trainer::checkpoint_bytes(engine.quiet_states());
  const auto present = trainer::list_checkpoints(options_.checkpoint_dir);
  const std::uint64_t most =
      trainer::most_checkpoints(present, keep_, options_.checkpoint_every, done, options_.steps);
  const std::uint64_t coming = std::max<std::uint64_t>(most - present.size(), 1);
  value_or_throw(trainer::check_space(
      options_.checkpoint_dir, coming * each,
      fmt::format(
          "{} checkpoints of {} (--keep {}; {} are there, and one more while it is written)",
          coming, pinned_pool::format_bytes(each), options_.keep, present.size())));
  trainer::StateTiers& tiers = engine.quiet_states().tiers();
  const bool on_files = tiers.weights().storage_bytes() + tiers.optimizer().storage_bytes() > 0;
  if (on_files) return tell_cost(each);
  tell("states in memory: training waits while a checkpoint's " + pinned_pool::format_bytes(each) +
       " are written");
}

// Where there are two generations of the states while training goes on, and in what room.
void TrainCheckpoints::tell_cost(std::uint64_t each) const {
  const trainer::Config& config = inputs_.config.config;
  const bool optimizer = config.offload_optimizer.device == trainer::OffloadDevice::kNvme;
  const trainer::OffloadConfig& states =
      optimizer ? config.offload_optimizer : config.offload_param;
  struct stat swap {
  }, saved{};
  if (::stat(states.nvme_path.c_str(), &swap) != 0 ||
      ::stat(options_.checkpoint_dir.c_str(), &saved) != 0) {
    return;
  }
  const std::string size = pinned_pool::format_bytes(each);
  if (swap.st_dev == saved.st_dev) {
    tell("checkpoints are links of the swap files: each takes " + size +
         " more as training goes on");
    return;
  }
  const auto room = trainer::check_space(states.nvme_path, each, "a second generation");
  tell(room ? "checkpoints are copied while training goes on, which takes " + size + " more in " +
                  states.nvme_path.string()
            : "note: training will wait for checkpoints: " + room.error().detail + " in " +
                  states.nvme_path.string());
}

std::map<std::string, std::string> TrainCheckpoints::training_facts() const {
  const trainer::Config& config = inputs_.config.config;
  return {{"train_batch_size", std::to_string(config.train_batch_size)},
          {"context", std::to_string(inputs_.context)},
          {"data tokens", std::to_string(inputs_.data.token_count())},
          {"learning rate", fmt::format("{}", config.optimizer.learning_rate)},
          {"scheduler steps", std::to_string(config.scheduler.total_num_steps)}};
}

bool TrainCheckpoints::after_step(trainer::ZeroEngine& engine) {
  if (!writes()) return false;
  // A signal may reach some of the ranks, and they at different steps.
  const bool asked = ranks_.all_reduce_sum(stop_after_step() ? 1 : 0) > 0;
  const std::uint64_t step = engine.steps_done();
  const bool due = options_.checkpoint_every > 0 && step % options_.checkpoint_every == 0;
  const bool last = step == options_.steps;
  if (on_its_way_) go_on(/*wait=*/false);
  if (asked || due || last) {
    engine.when_quiet(
        [this, facts = facts_after(step)](trainer::ModelStates& states, double waited_seconds) {
          begin_save(states, facts, waited_seconds);
        });
  }
  if (asked || last) {
    engine.quiet_states();
    go_on(/*wait=*/true);
  }
  if (!asked || last) return false;
  tell(fmt::format("stopped after step {}, as a signal asked; the same command goes on from there",
                   step));
  return true;
}

trainer::CheckpointFacts TrainCheckpoints::facts_after(std::uint64_t step) const {
  const std::uint64_t samples = (step - done_before_) * inputs_.config.config.train_batch_size;
  return {.step = step,
          .samples_seen = samples_before_ + samples,
          .model = inputs_.model,
          .training = training_facts()};
}

void TrainCheckpoints::begin_save(trainer::ModelStates& states,
                                  const trainer::CheckpointFacts& facts, double waited_seconds) {
  if (on_its_way_) go_on(/*wait=*/true);
  const auto start = std::chrono::steady_clock::now();
  auto save =
      std::make_unique<trainer::CheckpointSave>(states, facts, options_.checkpoint_dir, *files_);
  for (const std::string& note : save->notes()) tell("note: " + note);
  const std::chrono::duration<double> stopped = std::chrono::steady_clock::now() - start;
  on_its_way_ = {std::move(save), start, waited_seconds + stopped.count()};
}

void TrainCheckpoints::go_on(bool wait) {
  const auto now = std::chrono::steady_clock::now;
  const auto asked = now();
  if (wait) {
    on_its_way_->save->finish([] { return stop_now().load(); });
  } else if (!on_its_way_->save->poll()) {
    return;
  }
  const OnItsWay saved = std::move(*on_its_way_);
  on_its_way_.reset();
  const std::chrono::duration<double> took = now() - saved.start;
  const std::chrono::duration<double> waited = now() - asked;
  tell(fmt::format("saved {} in {:.2f} s (training waited {:.3f} s)", saved.save->path().string(),
                   took.count(), saved.stopped_seconds + waited.count()));
  if (directory_) value_or_throw(directory_->prune(keep_, *files_));
}

}  // namespace spillway::tools
