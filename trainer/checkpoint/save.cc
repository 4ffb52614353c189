#include <spillway/trainer/checkpoint_save.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/communicator.h>
#include <spillway/trainer/failure.h>
#include "trainer/plan/checkpoint_planes.h"
#include "trainer/plan/optimizer_layout.h"

#include <chrono>
#include <exception>
#include <future>
#include <span>
#include <utility>

#include "trainer/checkpoint/directory.h"
#include "trainer/checkpoint/files.h"
#include "trainer/checkpoint/shard_job.h"
#include "trainer/checkpoint/state_items.h"
#include "trainer/files/saved_file.h"
#include "trainer/ranks/rank_agreement.h"
#include "trainer/states/model_states.h"

namespace spillway::trainer {
namespace {

using std::filesystem::path;

// What rank 0 says of a shard: its index lies where all ranks write.
CheckpointShard describe_shard(const path& directory, std::uint32_t rank) {
  constexpr std::size_t kTail = 64;  // the seal and a little more
  CheckpointShard shard{.index = rank_name(rank) + ".json"};
  const path path = directory / shard.index;
  auto file = SavedFile::open(path);
  if (!file && file.error().kind != ErrorKind::kNotFound) throw Failure(file.error());
  if (!file || file->size_bytes() < kTail) {
    throw Failure(make_error(ErrorKind::kNotFound, "write checkpoint", path.string(),
                             "the shard of rank " + std::to_string(rank) +
                                 " is not there: all ranks must write to one directory, on a "
                                 "filesystem that they share")
                      .value());
  }
  shard.size_bytes = file->size_bytes();
  std::string tail(kTail, '\0');
  value_or_throw(
      file->read(path, shard.size_bytes - kTail, std::as_writable_bytes(std::span(tail))));
  shard.checksum = seal_of(tail);
  return shard;
}

// Of this rank.
std::uint64_t shard_bytes(ModelStates& states) {
  const CheckpointPlanes planes = checkpoint_planes(optimizer_format(states.config()));
  const StateItems tiles = list_state_items(states, swapper::Access::kRead);
  std::uint64_t bytes = 4096;
  for (std::size_t i = 0; i < tiles.items.size(); ++i) {
    const std::size_t count = tiles.items[i].size() > 1 ? planes.all.size() : planes.weight_count;
    for (std::size_t plane = 0; plane < count; ++plane) {
      bytes +=
          plane_bytes(planes.all[plane], tiles.extents[i].elements) + ShardWriter::kPlaceAlignment;
    }
    // In the index, in digits.
    bytes += 128 + 48 * count + 96 * tiles.extents[i].segments.size();
  }
  return bytes + bytes / kShardBlockBytes * 24;
}

}  // namespace

std::uint64_t checkpoint_bytes(ModelStates& states) {
  std::uint64_t bytes = 4096;
  for (const CheckpointParameter& parameter : list_parameters(states)) {
    bytes += 128 + parameter.name.size() + 24 * parameter.shape.size();
  }
  const double shards =
      states.communicator().all_reduce_sum(static_cast<double>(shard_bytes(states)));
  return bytes + static_cast<std::uint64_t>(shards);
}

class CheckpointSave::Work {
 public:
  Work(ModelStates& states, const CheckpointFacts& facts, const std::filesystem::path& directory,
       CheckpointFiles& files);
  ~Work();
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  bool poll();
  void finish(const std::function<bool()>& stop);

  const std::filesystem::path& finished_path() const noexcept { return finished_; }
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  enum class Phase { kShards, kPublishing, kComplete };

  void begin(ModelStates& states, const CheckpointFacts& facts);
  void publish();
  [[noreturn]] void fail(std::exception_ptr failure, double failed);
  void start(std::function<void()> task);
  void remove_unfinished() noexcept;

  Communicator* ranks_;
  CheckpointFiles& files_;
  std::filesystem::path finished_;
  std::filesystem::path unfinished_;
  CheckpointManifest manifest_;  // without shards
  std::unique_ptr<ShardJob> job_;
  std::vector<std::string> notes_;
  Phase phase_ = Phase::kShards;
  std::future<void> task_;  // of this rank, in this phase
};

CheckpointSave::Work::Work(ModelStates& states, const CheckpointFacts& facts,
                           const std::filesystem::path& directory, CheckpointFiles& files)
    : ranks_(&states.communicator()),
      files_(files),
      finished_(directory / checkpoint_name(facts.step)),
      unfinished_(finished_.string() + kUnfinishedSuffix) {
  const std::uint64_t bytes = checkpoint_bytes(states);
  RankAgreement ranks(*ranks_, "write checkpoint " + finished_.string());
  try {
    ranks.run([&] {
      if (ranks_->rank() != 0) return;
      remove_checkpoint(unfinished_);
      value_or_throw(
          check_space(directory, bytes, "the checkpoint of step " + std::to_string(facts.step)));
      value_or_throw(files_.make_directory(unfinished_));
    });
    ranks.run([&] {
      begin(states, facts);
      job_->take(states, ranks);
      notes_ = job_->notes();
    });
  } catch (...) {
    remove_unfinished();
    throw;
  }
  start([this] { job_->complete(); });
}

CheckpointSave::Work::~Work() {
  if (phase_ == Phase::kComplete) return;
  job_->cancel();
  if (task_.valid()) task_.wait();
  remove_unfinished();
}

void CheckpointSave::Work::begin(ModelStates& states, const CheckpointFacts& facts) {
  job_ = std::make_unique<ShardJob>(states, unfinished_, files_);
  manifest_.step = facts.step;
  manifest_.seed = states.config().seed;
  manifest_.samples_seen = facts.samples_seen;
  manifest_.world_size = ranks_->world_size();
  manifest_.format = optimizer_format(states.config());
  manifest_.model = facts.model;
  manifest_.training = facts.training;
  manifest_.parameters = list_parameters(states);
}

void CheckpointSave::Work::start(std::function<void()> task) {
  task_ = std::async(std::launch::async, std::move(task));
}

void CheckpointSave::Work::publish() {
  for (std::uint32_t rank = 0; rank < manifest_.world_size; ++rank) {
    manifest_.shards.push_back(describe_shard(unfinished_, rank));
  }
  value_or_throw(write_file(files_, unfinished_ / kManifestName, to_text(manifest_)));
  value_or_throw(files_.sync_directory(unfinished_));
  value_or_throw(files_.rename(unfinished_, finished_));
  value_or_throw(files_.sync_directory(finished_.parent_path()));
}

bool CheckpointSave::Work::poll() {
  if (phase_ == Phase::kComplete) return true;
  const bool done =
      !task_.valid() || task_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  std::exception_ptr failure;
  try {
    if (done && task_.valid()) task_.get();
  } catch (...) {
    failure = std::current_exception();
  }
  if (const double failed = ranks_->all_reduce_sum(failure ? 1 : 0); failed > 0) {
    fail(failure, failed);
  }
  if (ranks_->all_reduce_sum(done ? 0 : 1) > 0) return false;
  if (phase_ == Phase::kPublishing) {
    phase_ = Phase::kComplete;
    job_.reset();
    return true;
  }
  phase_ = Phase::kPublishing;
  if (ranks_->rank() == 0) start([this] { publish(); });
  return false;
}

void CheckpointSave::Work::finish(const std::function<bool()>& stop) {
  constexpr auto kAtATime = std::chrono::milliseconds(50);
  if (job_) job_->hurry();
  while (!poll()) {
    if (stop && stop()) throw Interrupted();
    if (task_.valid()) task_.wait_for(kAtATime);
  }
}

// On every rank, when `failed` of them have.
void CheckpointSave::Work::fail(std::exception_ptr failure, double failed) {
  job_->cancel();
  if (task_.valid()) task_.wait();
  std::string who = "other ranks";
  try {  // nobody writes any more after it
    const double sum = ranks_->all_reduce_sum(failure ? ranks_->rank() : 0);
    if (failed == 1) who = "rank " + std::to_string(static_cast<std::uint32_t>(sum));
  } catch (const Failure&) {  // the others are gone: the first cause counts
  }
  remove_unfinished();
  phase_ = Phase::kComplete;  // nothing is left to do
  if (failure) std::rethrow_exception(failure);
  throw Failure(make_error(ErrorKind::kCancelled, "write checkpoint " + finished_.string(), "",
                           who + " could not; it says why")
                    .value());
}

void CheckpointSave::Work::remove_unfinished() noexcept {
  if (ranks_->rank() == 0) remove_checkpoint(unfinished_);
}

CheckpointSave::CheckpointSave(ModelStates& states, const CheckpointFacts& facts,
                               const std::filesystem::path& directory)
    : files_(make_checkpoint_files()),
      work_(std::make_unique<Work>(states, facts, directory, *files_)) {}

CheckpointSave::CheckpointSave(ModelStates& states, const CheckpointFacts& facts,
                               const std::filesystem::path& directory, CheckpointFiles& files)
    : work_(std::make_unique<Work>(states, facts, directory, files)) {}

CheckpointSave::~CheckpointSave() = default;

bool CheckpointSave::poll() { return work_->poll(); }

void CheckpointSave::finish(const std::function<bool()>& stop) { work_->finish(stop); }

const path& CheckpointSave::path() const noexcept { return work_->finished_path(); }

const std::vector<std::string>& CheckpointSave::notes() const noexcept { return work_->notes(); }

void save_checkpoint(ModelStates& states, const CheckpointFacts& facts, const path& directory) {
  CheckpointSave(states, facts, directory).finish([&] { return states.stop_requested(); });
}

void save_checkpoint(ModelStates& states, const CheckpointFacts& facts, const path& directory,
                     CheckpointFiles& files) {
  CheckpointSave(states, facts, directory, files).finish([&] { return states.stop_requested(); });
}

}  // namespace spillway::trainer
