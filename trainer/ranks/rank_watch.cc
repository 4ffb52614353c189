#include "trainer/ranks/rank_watch.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
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
constexpr std::chrono::seconds kStoreSilence{5};
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

std::vector<std::uint8_t> to_bytes(const Line& line) {
  const std::string text = std::to_string(line.beats) + ' ' + std::to_string(line.exchanges) + ' ' +
                           line.condition + ' ' + line.text;
  return {text.begin(), text.end()};
}

Line from_bytes(const std::vector<std::uint8_t>& bytes) {
  Line line;
  std::istringstream stream(std::string(bytes.begin(), bytes.end()));
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
  Options options;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Line> lines;  // own one: what is to be written next
  std::uint64_t rounds = 0;
  Clock::time_point last_round = Clock::now();
  std::string store_error;
  bool leaving = false;
  bool ended = false;  // the thread

  Line& own() { return lines[options.rank]; }
  template <typename Which>
  std::vector<std::uint32_t> others(const Which& which) const {
    std::vector<std::uint32_t> found;
    for (std::uint32_t rank = 0; rank < lines.size(); ++rank) {
      if (rank != options.rank && which(lines[rank])) found.push_back(rank);
    }
    return found;
  }
  void take(const std::vector<std::vector<std::uint8_t>>& written);
  std::optional<std::string> cause() const;
  std::string who_has_not_come() const;
};

void RankWatch::State::take(const std::vector<std::vector<std::uint8_t>>& written) {
  ++rounds;
  last_round = Clock::now();
  for (std::uint32_t rank = 0; rank < lines.size(); ++rank) {
    if (rank == options.rank) continue;
    Line read = from_bytes(written[rank]);
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
  if (!store_error.empty()) {
    return options.store_keeper + " is gone, and with it the store (" + store_error + ")";
  }
  if (Clock::now() - last_round > kStoreSilence) {
    return options.store_keeper + " gives no sign of life: it was stopped, or its machine is gone";
  }
  const auto silent = others([&](const Line& line) {
    return line.condition == "done" || rounds - line.changed_in_round >= kSilentRounds;
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

RankWatch::RankWatch(c10::intrusive_ptr<c10d::Store> store, Options options)
    : state_(std::make_shared<State>()) {
  state_->options = std::move(options);
  state_->lines.resize(state_->options.world_size);
  store->set(key_of(state_->options.rank), to_bytes(state_->own()));
  thread_ = std::thread([state = state_, store = std::move(store)] { run(state, *store); });
}

RankWatch::~RankWatch() { leave(""); }

void RankWatch::run(const std::shared_ptr<State>& state, c10d::Store& store) noexcept {
  std::vector<std::string> keys;
  for (std::uint32_t rank = 0; rank < state->options.world_size; ++rank) {
    keys.push_back(key_of(rank));
  }
  std::optional<Clock::time_point> farewell_ends;
  std::unique_lock lock(state->mutex);
  try {
    while (true) {
      ++state->own().beats;
      const auto line = to_bytes(state->own());
      const bool leaving = state->leaving;
      lock.unlock();
      store.set(key_of(state->options.rank), line);
      const auto written = store.multiGet(keys);
      lock.lock();
      state->take(written);
      state->changed.notify_all();
      if (leaving) {
        if (!farewell_ends) farewell_ends = Clock::now() + kFarewell;
        const bool read = state->others([](const Line& other) { return other.lives(); }).empty();
        const bool waits = state->options.keeps_store && !state->own().text.empty();
        if (!waits || read || Clock::now() > *farewell_ends) break;
      }
      state->changed.wait_for(lock, leaving ? kBeat / 5 : kBeat,
                              [&] { return state->leaving && !leaving; });
    }
  } catch (const std::exception& error) {
    if (!lock.owns_lock()) lock.lock();
    state->store_error = first_line(error.what());
  }
  state->ended = true;
  state->changed.notify_all();
}

void RankWatch::enter_exchange() noexcept {
  const std::lock_guard lock(state_->mutex);
  ++state_->own().exchanges;
}

std::string RankWatch::blame() {
  std::unique_lock lock(state_->mutex);
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
  std::unique_lock lock(state_->mutex);
  if (state_->own().lives()) {
    state_->own().condition = reason.empty() ? "done" : "ends";
    state_->own().text = first_line(reason);
  }
  state_->leaving = true;
  state_->changed.notify_all();
  // A little longer than the thread takes to say farewell.
  const bool ended =
      state_->changed.wait_for(lock, kFarewell + kBeat, [&] { return state_->ended; });
  lock.unlock();
  ended ? thread_.join() : thread_.detach();
}

}  // namespace spillway::trainer
