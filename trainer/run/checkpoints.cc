#include "trainer/run/checkpoints.h"

#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/checkpoint.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

#include "trainer/states/model_states.h"
#include "trainer/states/state_tiers.h"

namespace spillway::trainer {
namespace {

// The fact of a checkpoint that names what draws dropout's masks; only a model with dropout has it.
constexpr const char* kDropoutFact = "dropout";

using pinned_pool::format_bytes;
using std::filesystem::path;

[[noreturn]] void refuse(const path& where, std::string why) {
  throw Failure(make_error(ErrorKind::kInvalid, "resume", where.string(), std::move(why)).value());
}

path newest_in(const path& directory) {
  const auto steps = list_checkpoints(directory);
  return steps.empty() ? path() : directory / checkpoint_name(steps.back());
}

}  // namespace

path choose_checkpoint(const CheckpointOptions& options, const SettingNames& names) {
  if (options.resume.value_or(false) && options.directory.empty()) {
    refuse({}, names.resume + " looks for checkpoints in " + names.directory + ": name it");
  }
  const path newest = options.directory.empty() ? path() : newest_in(options.directory);
  if (!options.resume_from.empty()) {
    const path within = newest_in(options.resume_from);
    return within.empty() ? options.resume_from : within;
  }
  if (options.resume.value_or(true)) return newest;
  if (newest.empty()) return {};
  refuse(newest, names.no_resume +
                     ", but the directory holds checkpoints of an earlier run: go on from them (" +
                     names.resume + ") or name another directory");
}

std::string shortest_text(double value) {
  std::array<char, 32> text;
  const auto in = [&](std::chars_format format) {
    return std::string(text.data(),
                       std::to_chars(text.data(), text.data() + text.size(), value, format).ptr);
  };
  const std::string scientific = in(std::chars_format::scientific);
  const int exponent = std::stoi(scientific.substr(scientific.find('e') + 1));
  return exponent >= -4 && exponent < 16 ? in(std::chars_format::fixed) : scientific;
}

RunCheckpoints::RunCheckpoints(const RunInput& input, Communicator& ranks, RunObserver& observer)
    : input_(input), options_(input.checkpoints), ranks_(ranks), observer_(observer) {
  if (writes()) open_directory();
  const path chosen = choose_checkpoint(options_, input_.names);
  if (!chosen.empty()) open(chosen);
  if (chosen.empty() && writes()) {
    observer_.progress("no checkpoint in " + options_.directory.string() + ": a fresh start");
  }
}

void RunCheckpoints::open_directory() {
  if (ranks_.rank() == 0) {
    directory_ = value_or_throw(CheckpointDirectory::open(options_.directory));
    for (const std::string& note : directory_->notes()) observer_.progress(note);
  }
  ranks_.barrier();  // the others look when it is there, and tidy
}

Failure RunCheckpoints::refusal(const Error& error, const path& path) const {
  Error explained = error;
  const auto step = step_of_name(path.filename().string());
  auto steps = list_checkpoints(path.parent_path());
  std::erase_if(steps, [&](std::uint64_t other) { return !step || other >= *step; });
  if (!steps.empty()) {
    explained.detail += (explained.detail.empty() ? "" : "; ") + path.filename().string() +
                        " is not used. To go on from the one before: " + input_.names.resume_from +
                        " " + (path.parent_path() / checkpoint_name(steps.back())).string();
  }
  return Failure(std::move(explained));
}

void RunCheckpoints::open(const path& path) {
  auto checkpoint = Checkpoint::open(path);
  if (!checkpoint) throw refusal(checkpoint.error(), path);
  from_ = std::move(*checkpoint);
}

std::uint64_t RunCheckpoints::resume(ZeroEngine& engine) {
  const std::uint64_t done = from_ ? load(engine) : 0;
  if (writes() && done < input_.steps) check_room(engine, done);
  return done;
}

std::uint64_t RunCheckpoints::load(ZeroEngine& engine) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> notes;
  try {
    notes = load_checkpoint(engine.quiet_states(), *from_);
  } catch (const Failure& failure) {
    if (failure.error().kind != ErrorKind::kCorrupt) throw;
    throw refusal(failure.error(), from_->directory());
  }
  const CheckpointManifest& manifest = from_->manifest();
  done_before_ = manifest.step;
  samples_before_ = manifest.samples_seen;
  engine.resume_after(done_before_);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  observer_.resumed(CheckpointLoaded{from_->directory(), manifest.world_size, took.count()});
  for (const std::string& note : notes) observer_.advice(note);
  advise_differences(manifest.training);
  if (directory_) {
    for (const std::string& line :
         value_or_throw(directory_->set_aside_newer_than(done_before_, *files_))) {
      observer_.progress(line);
    }
  }
  ranks_.barrier();  // nobody saves before that
  from_.reset();
  return done_before_;
}

void RunCheckpoints::advise_differences(const std::map<std::string, std::string>& saved) const {
  const auto now = training_facts();
  for (const auto& [name, value] : saved) {
    const auto other = now.find(name);
    if (other == now.end() || other->second == value) continue;
    observer_.advice(name + " is " + other->second + ", the checkpoint was made with " + value);
  }
  if (now.contains(kDropoutFact) && !saved.contains(kDropoutFact)) {
    observer_.advice(std::string("dropout masks are drawn by ") + kDropoutGenerator +
                     ": they differ from those of the program that made the checkpoint");
  }
}

void RunCheckpoints::check_room(ZeroEngine& engine, std::uint64_t done) {
  const std::uint64_t each = checkpoint_bytes(engine.quiet_states());
  const auto present = list_checkpoints(options_.directory);
  const std::uint64_t most =
      most_checkpoints(present, options_.keep, options_.every, done, input_.steps);
  const std::uint64_t coming = std::max<std::uint64_t>(most - present.size(), 1);
  value_or_throw(check_space(
      options_.directory, coming * each,
      std::to_string(coming) + " checkpoints of " + format_bytes(each) + " (" + input_.names.keep +
          " " + std::to_string(options_.keep.newest) + "; " + std::to_string(present.size()) +
          " are there, and one more while it is written)"));
  StateTiers& tiers = engine.quiet_states().tiers();
  const bool on_files = tiers.weights().storage_bytes() + tiers.optimizer().storage_bytes() > 0;
  if (on_files) return tell_cost(each);
  observer_.progress("states in memory: training waits while a checkpoint's " + format_bytes(each) +
                     " are written");
}

// Where there are two generations of the states while training goes on, and in what room.
void RunCheckpoints::tell_cost(std::uint64_t each) const {
  const Config& config = input_.config;
  const bool optimizer = config.offload_optimizer.device == OffloadDevice::kNvme;
  const OffloadConfig& states = optimizer ? config.offload_optimizer : config.offload_param;
  const std::string size = format_bytes(each);
  if (can_link(states.nvme_path, options_.directory)) {
    observer_.progress("checkpoints are links of the swap files: each takes " + size +
                       " more as training goes on");
    return;
  }
  const auto room = check_space(states.nvme_path, each, "a second generation");
  if (room) {
    observer_.progress("checkpoints are copied while training goes on, which takes " + size +
                       " more in " + states.nvme_path.string());
  } else {
    observer_.advice("training will wait for checkpoints: " + room.error().detail + " in " +
                     states.nvme_path.string());
  }
}

std::map<std::string, std::string> RunCheckpoints::training_facts() const {
  const Config& config = input_.config;
  std::map<std::string, std::string> facts{
      {"train_batch_size", std::to_string(config.train_batch_size)},
      {"context", std::to_string(input_.context)},
      {"data tokens", std::to_string(input_.data.token_count())},
      {"learning rate", shortest_text(config.optimizer.learning_rate)},
      {"scheduler steps", std::to_string(config.scheduler.total_num_steps)}};
  if (input_.model->has_dropout()) facts[kDropoutFact] = kDropoutGenerator;
  return facts;
}

bool RunCheckpoints::after_step(ZeroEngine& engine) {
  if (!writes()) return false;
  // A signal may reach some of the ranks, and they at different steps.
  const std::atomic<bool>* const flag = input_.stop.after_step;
  const bool asked = ranks_.all_reduce_sum(flag != nullptr && *flag ? 1 : 0) > 0;
  const std::uint64_t step = engine.steps_done();
  const bool due = options_.every > 0 && step % options_.every == 0;
  const bool last = step == input_.steps;
  if (saving_) go_on(/*wait=*/false);
  if (asked || due || last) {
    engine.when_quiet(
        [this, facts = facts_after(step)](ModelStates& states, double waited_seconds) {
          begin_save(states, facts, waited_seconds);
        });
  }
  if (asked || last) {
    engine.quiet_states();
    go_on(/*wait=*/true);
  }
  if (!asked || last) return false;
  observer_.stopped(step);
  return true;
}

CheckpointFacts RunCheckpoints::facts_after(std::uint64_t step) const {
  const std::uint64_t samples = (step - done_before_) * input_.config.train_batch_size;
  return {.step = step,
          .samples_seen = samples_before_ + samples,
          .model = saved_model(*input_.model),
          .training = training_facts()};
}

void RunCheckpoints::begin_save(ModelStates& states, const CheckpointFacts& facts,
                                double waited_seconds) {
  if (saving_) go_on(/*wait=*/true);
  const auto start = std::chrono::steady_clock::now();
  auto save = std::make_unique<CheckpointSave>(states, facts, options_.directory, *files_);
  for (const std::string& note : save->notes()) observer_.advice(note);
  const std::chrono::duration<double> stopped = std::chrono::steady_clock::now() - start;
  saving_ = {std::move(save), start, waited_seconds + stopped.count()};
}

void RunCheckpoints::go_on(bool wait) {
  const auto now = std::chrono::steady_clock::now;
  const auto asked = now();
  if (wait) {
    const std::atomic<bool>* const stop = input_.stop.now;
    saving_->save->finish([stop] { return stop != nullptr && stop->load(); });
  } else if (!saving_->save->poll()) {
    return;
  }
  const Saving saved = std::move(*saving_);
  saving_.reset();
  const std::chrono::duration<double> took = now() - saved.start;
  const std::chrono::duration<double> waited = now() - asked;
  observer_.saved(
      CheckpointSaved{saved.save->path(), took.count(), saved.stopped_seconds + waited.count()});
  if (directory_) value_or_throw(directory_->prune(options_.keep, *files_));
}

}  // namespace spillway::trainer
