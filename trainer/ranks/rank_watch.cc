#include "trainer/ranks/rank_watch.h"

#include <spillway/aio/mutex.h>
#include <spillway/aio/signals.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

namespace spillway::trainer {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBeat{500};
// Counted in rounds of one's own, not in seconds: a machine that was suspended accuses no rank.
constexpr std::uint64_t kSilentRounds = 6;
constexpr std::chrono::seconds kBoardSilence{5};
constexpr std::chrono::seconds kFarewell{2};

// What a rank has written, and since when it has not changed.
struct Line {
  std::uint64_t beats = 0;
  std::uint64_t exchanges = 0;
  // "lives"; "ends" with the cause; "blames" another with what blame() said; "done".
  std::string condition = "lives";
  std::string text;
  std::uint64_t changed_in_round = 0;

  bool lives() const { return condition == "lives"; }
};

std::string key_of(std::uint32_t rank) { return "alive/" + std::to_string(rank); }

std::string to_text(const Line& line) {
  return std::to_string(line.beats) + ' ' + std::to_string(line.exchanges) + ' ' + line.condition +
         ' ' + line.text;
}

Line from_text(const std::string& text) {
  Line line;
  std::istringstream stream(text);
  stream >> line.beats >> line.exchanges >> line.condition;
  stream.get();
  std::getline(stream, line.text);
  return line;
}

std::string first_line(const std::string& text) {
  constexpr std::size_t kLongest = 600;
  return text.substr(0, std::min(text.find('\n'), kLongest));
}

// "rank 1", "ranks 1, 2 and 5"
std::string names(const std::vector<std::uint32_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

}  // namespace

struct RankWatch::State {
  explicit State(Options given) : options(std::move(given)), lines(options.world_size) {}

  const Options options;
  Mutex mutex;
  CondVar changed;
  // The own one is to be written next.
  std::vector<Line> lines SPILLWAY_GUARDED_BY(mutex);
  std::uint64_t rounds SPILLWAY_GUARDED_BY(mutex) = 0;
  Clock::time_point last_round SPILLWAY_GUARDED_BY(mutex) = Clock::now();
  std::string board_error SPILLWAY_GUARDED_BY(mutex);
  bool leaving SPILLWAY_GUARDED_BY(mutex) = false;
  bool ended SPILLWAY_GUARDED_BY(mutex) = false;  // the thread

  Line& own() SPILLWAY_REQUIRES(mutex) { return lines[options.rank]; }
  template <typename Which>
  std::vector<std::uint32_t> others(const Which& which) const SPILLWAY_REQUIRES(mutex) {
    std::vector<std::uint32_t> found;
    for (std::uint32_t rank = 0; rank < lines.size(); ++rank) {
      if (rank != options.rank && which(lines[rank])) found.push_back(rank);
    }
    return found;
  }
  void exchange_lines(RankBoard& board) SPILLWAY_EXCLUDES(mutex);
  void take(const std::vector<std::string>& written) SPILLWAY_REQUIRES(mutex);
  std::optional<std::string> cause() const SPILLWAY_REQUIRES(mutex);
  std::string who_has_not_come() const SPILLWAY_REQUIRES(mutex);
};

void RankWatch::State::take(const std::vector<std::string>& written) {
  ++rounds;
  last_round = Clock::now();
  for (std::uint32_t rank = 0; rank < lines.size(); ++rank) {
    if (rank == options.rank) continue;
    Line read = from_text(written[rank]);
    const bool same = read.beats == lines[rank].beats;
    read.changed_in_round = same ? lines[rank].changed_in_round : rounds;
    lines[rank] = std::move(read);
  }
}

// The first thing that explains a failed exchange; nothing while everybody seems well.
std::optional<std::string> RankWatch::State::cause() const {
  const auto ends = others([](const Line& line) { return line.condition == "ends"; });
  if (!ends.empty()) return names({ends[0]}) + " has ended: " + lines[ends[0]].text;
  const auto blames = others([](const Line& line) { return line.condition == "blames"; });
  if (!blames.empty()) return lines[blames[0]].text;
  if (!board_error.empty()) {
    return options.board_keeper + " is gone, and with it the store (" + board_error + ")";
  }
  if (Clock::now() - last_round > kBoardSilence) {
    return options.board_keeper + " gives no sign of life: it was stopped, or its machine is gone";
  }
  const auto silent = others([now = rounds](const Line& line) {
    return line.condition == "done" || now - line.changed_in_round >= kSilentRounds;
  });
  if (silent.empty()) return std::nullopt;
  return names(silent) + (silent.size() == 1 ? " gives" : " give") +
         " no sign of life: killed, crashed or stopped";
}

std::string RankWatch::State::who_has_not_come() const {
  const std::uint64_t here = lines[options.rank].exchanges;
  const auto late = others([&](const Line& line) { return line.exchanges < here; });
  if (late.empty()) return "all ranks live and have come";
  return names(late) + (late.size() == 1 ? " lives but has" : " live but have") + " not come";
}

RankWatch::RankWatch(std::unique_ptr<RankBoard> board, Options options)
    : state_(std::make_shared<State>(std::move(options))) {
  board->write(key_of(state_->options.rank), to_text({}));
  thread_ = aio::thread_without_signals(
      [state = state_, board = std::shared_ptr<RankBoard>(std::move(board))] {
        run(*state, *board);
      });
}

RankWatch::~RankWatch() { leave(""); }

void RankWatch::run(State& state, RankBoard& board) noexcept {
  std::string error;
  try {
    state.exchange_lines(board);
  } catch (const std::exception& thrown) {
    error = first_line(thrown.what());
  }
  const MutexLock lock(state.mutex);
  state.board_error = std::move(error);
  state.ended = true;
  state.changed.notify_all();
}

// Round after round, until this rank leaves.
void RankWatch::State::exchange_lines(RankBoard& board) {
  std::vector<std::string> keys;
  for (std::uint32_t rank = 0; rank < options.world_size; ++rank) keys.push_back(key_of(rank));
  std::optional<Clock::time_point> farewell_ends;
  MutexLock lock(mutex);
  while (true) {
    ++own().beats;
    const std::string line = to_text(own());
    const bool was_leaving = leaving;
    lock.unlock();
    board.write(key_of(options.rank), line);
    const auto written = board.read(keys);
    lock.lock();
    take(written);
    changed.notify_all();
    if (was_leaving) {
      if (!farewell_ends) farewell_ends = Clock::now() + kFarewell;
      const bool read = others([](const Line& other) { return other.lives(); }).empty();
      const bool waits = options.keeps_board && !own().text.empty();
      if (!waits || read || Clock::now() > *farewell_ends) return;
    }
    changed.wait_for(lock, was_leaving ? kBeat / 5 : kBeat,
                     [&]() SPILLWAY_REQUIRES(mutex) { return leaving && !was_leaving; });
  }
}

void RankWatch::enter_exchange() noexcept {
  const MutexLock lock(state_->mutex);
  ++state_->own().exchanges;
}

std::string RankWatch::blame() {
  MutexLock lock(state_->mutex);
  const std::uint64_t enough = state_->rounds + kSilentRounds + 2;
  std::optional<std::string> cause;
  while (!(cause = state_->cause()) && state_->rounds < enough) {
    state_->changed.wait_for(lock, kBeat / 5);
  }
  if (!cause) cause = state_->who_has_not_come();
  state_->own().condition = "blames";
  state_->own().text = *cause;
  return *cause;
}

void RankWatch::leave(const std::string& reason) noexcept {
  if (!thread_.joinable()) return;  // has left before
  bool ended = false;
  {
    MutexLock lock(state_->mutex);
    if (state_->own().lives()) {
      state_->own().condition = reason.empty() ? "done" : "ends";
      state_->own().text = first_line(reason);
    }
    state_->leaving = true;
    state_->changed.notify_all();
    // A little longer than the thread takes to say farewell.
    ended = state_->changed.wait_for(
        lock, kFarewell + kBeat,
        [this]() SPILLWAY_REQUIRES(state_->mutex) { return state_->ended; });
  }
  ended ? thread_.join() : thread_.detach();
}

}  // namespace spillway::trainer
