// Requests of any shape, many at a time, over every backend, against a model in RAM.
//
// Input: which backend, block size, depth, threads, faults, then reads, writes, registrations,
// cancellations and waits. Every byte that was read, every byte around it, and in the end the whole
// file must be the model's. Where a write failed or was cancelled, each of its bytes may be the old
// or the new one.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <spillway/aio/check.h>
#include <spillway/aio/engine.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "pending_request.h"
#include "support/scratch.h"
#include "support/simulator.h"

namespace spillway::aio {
namespace {

constexpr std::uint64_t kLargestOffset = 300'000;
constexpr std::uint64_t kUsualSize = 40'000;
constexpr std::size_t kMostPending = 12;

class Session {
 public:
  Session(FuzzedDataProvider& in, const Scratch& scratch) : in_(in), random_(1) {
    path_ = scratch / "data";
    options_ = {.block_size_bytes = 4096u << in.ConsumeIntegralInRange(0, 4),
                .queue_depth = in.ConsumeIntegralInRange<std::uint32_t>(1, 8),
                .thread_count = in.ConsumeIntegralInRange<std::uint32_t>(1, 2),
                .single_submit = in.ConsumeBool()};
    engine_ = make_engine();
    std::uint64_t size_bytes = pick_offset();
    auto file = File::create(path_, {.size_bytes = size_bytes,
                                     .overwrite = true,
                                     .direct = in.ConsumeBool() ? Direct::kAuto : Direct::kOff});
    SPILLWAY_CHECK(file.has_value(), "the file cannot be made");
    file_.emplace(std::move(*file));
    model_.resize(size_bytes);
    settled_bytes_ = size_bytes;
    arena_ = Buffer::allocate(1 << 20);
    if (in.ConsumeBool()) engine_->register_file(*file_);
  }

  void run() {
    for (int i = 0; i < 40 && in_.remaining_bytes() > 0; ++i) step();
    if (in_.ConsumeBool()) {
      engine_.reset();  // with requests in flight: each ends, as it may
      ended_early_ = true;
    }
    settle_all();
    expect_file();
  }

 private:
  std::unique_ptr<Engine> make_engine() {
    switch (in_.ConsumeIntegralInRange(0, 3)) {
      case 0:
        return created(Engine::create(options_));
      case 1:
        options_.backend = BackendKind::kThreadPool;
        return created(Engine::create(options_));
      default: {
        SimulatorOptions faults{.seed = in_.ConsumeIntegral<std::uint8_t>(),
                                .short_chance = in_.ConsumeIntegralInRange(0, 3) * 0.2,
                                .interrupt_chance = in_.ConsumeIntegralInRange(0, 3) * 0.1,
                                .reorder = in_.ConsumeBool(),
                                .max_delay_rounds = in_.ConsumeIntegralInRange<std::uint32_t>(0, 3),
                                .accept_at_most = in_.ConsumeIntegralInRange<std::uint32_t>(1, 9)};
        control_ = std::make_shared<SimulatorControl>(faults);
        return created(Engine::create(options_, simulator_backend(control_)));
      }
    }
  }
  static std::unique_ptr<Engine> created(Result<std::unique_ptr<Engine>> engine) {
    SPILLWAY_CHECK(engine.has_value(), "the engine cannot be made");
    return std::move(*engine);
  }

  // Places near borders are the interesting ones.
  std::uint64_t pick(std::uint64_t below) {
    const std::uint64_t units[] = {1, 512, 4096, options_.block_size_bytes};
    std::uint64_t unit = units[in_.ConsumeIntegralInRange(0, 3)];
    std::uint64_t place = in_.ConsumeIntegral<std::uint16_t>() % (below / unit + 1) * unit;
    int nudge = in_.ConsumeIntegralInRange(0, 7);
    if (nudge == 6) ++place;
    if (nudge == 7 && place > 0) --place;
    return place;
  }
  std::uint64_t pick_offset() { return pick(kLargestOffset); }
  std::size_t pick_size() {
    return pick(in_.ConsumeIntegralInRange(0, 9) == 9 ? kLargestOffset : kUsualSize);
  }

  void step() {
    switch (in_.ConsumeIntegralInRange(0, 11)) {
      case 10:
        return hurry_one();
      case 11:
        return abandon_a_read();
      case 0:
        return settle_oldest();
      case 1:
        return settle_all();
      case 2:
        return toggle_registration();
      case 3:
        return plan_failure();
      case 4:
      case 5:
      case 6:
        return write(pick_offset(), pick_size());
      default:
        return read(pick_offset(), pick_size());
    }
  }

  void hurry_one() {
    if (pending_.empty()) return;
    Pending& one = pending_[in_.ConsumeIntegralInRange<std::size_t>(0, pending_.size() - 1)];
    if (!one.ticket.valid()) return;
    if (in_.ConsumeBool()) return one.ticket.expedite();
    one.ticket.cancel();
    one.may_end_early = true;
  }

  // What becomes of it nobody sees, but its memory must live as long as the kernel uses it.
  void abandon_a_read() {
    auto reads = [](const Pending& one) {
      return one.direction == Direction::kRead && one.ticket.valid();
    };
    auto found = std::find_if(pending_.begin(), pending_.end(), reads);
    if (found != pending_.end()) pending_.erase(found);
  }

  void toggle_registration() {
    settle_all();
    // Nothing may be in flight inside the memory, and what was abandoned may still be.
    while (arena_users_ != 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (!registered_.empty()) {
      engine_->unregister_memory(registered_);
      registered_ = {};
      return;
    }
    std::size_t begin = in_.ConsumeIntegralInRange<std::size_t>(0, 100) * 4096;
    std::span<std::byte> part = arena_.first(arena_.capacity()).subspan(begin, 400 * 1024);
    if (engine_->register_memory(part)) registered_ = part;
  }

  void plan_failure() {
    if (control_ == nullptr) return;
    const int errors[] = {EIO, ENOSPC, EINVAL, ECANCELED};
    control_->plan({.kind = in_.ConsumeBool() ? FaultKind::kError : FaultKind::kZero,
                    .nth = in_.ConsumeIntegralInRange<std::uint64_t>(1, 20),
                    .errno_value = errors[in_.ConsumeIntegralInRange(0, 3)]});
    may_fail_ = true;
  }

  // Memory for one request: of its own, at some alignment, or a part of the arena that may be
  // registered in part (and then nothing else uses it).
  Buffer memory_for(const Pending& pending) {
    std::size_t bytes = pending.buffer_offset + pending.size_bytes + kGuardBytes;
    bool arena_free = arena_users_ == 0 && bytes <= arena_.capacity() / 2;
    Buffer buffer;
    if (arena_free && in_.ConsumeBool()) {
      ++arena_users_;
      std::size_t at = in_.ConsumeIntegral<std::uint16_t>() * 8;
      auto release = [](void* users, std::byte*, std::size_t) noexcept {
        --*static_cast<std::atomic<int>*>(users);
      };
      buffer = Buffer(arena_.data() + at, bytes, release, &arena_users_);
    } else {
      buffer = Buffer::allocate(bytes, 16u << in_.ConsumeIntegralInRange(0, 8));
    }
    std::memset(buffer.data(), static_cast<int>(kUntouched), bytes);
    return buffer;
  }

  void start(Pending pending, Buffer buffer) {
    Engine::Request request{.file = &*file_,
                            .offset = pending.offset,
                            .size_bytes = pending.size_bytes,
                            .buffer_offset = pending.buffer_offset,
                            .priority = in_.ConsumeBool() ? Priority::kUrgent : Priority::kNormal};
    bool reads = pending.direction == Direction::kRead;
    // A late write may still reach the file when its request has ended: only reads have deadlines.
    if (reads && in_.ConsumeIntegralInRange(0, 9) == 9) {
      request.deadline = std::chrono::steady_clock::now() +
                         std::chrono::microseconds(in_.ConsumeIntegralInRange(0, 2000));
      pending.may_end_early = true;
    }
    if (in_.ConsumeBool()) {
      pending.ticket = reads ? engine_->read(request, std::move(buffer))
                             : engine_->write(request, std::move(buffer));
    } else {
      auto promise = std::make_shared<std::promise<Completion>>();
      pending.completion = promise->get_future();
      auto callback = [promise](Completion done) { promise->set_value(std::move(done)); };
      reads ? engine_->read(request, std::move(buffer), std::move(callback))
            : engine_->write(request, std::move(buffer), std::move(callback));
    }
    pending_.push_back(std::move(pending));
    if (pending_.size() > kMostPending) settle_oldest();
  }

  Pending pending_at(Direction direction, std::uint64_t offset, std::size_t size_bytes) {
    std::size_t buffer_offset = in_.ConsumeBool() ? 0 : in_.ConsumeIntegralInRange(0, 5000);
    return {.direction = direction,
            .offset = offset,
            .size_bytes = size_bytes,
            .buffer_offset = buffer_offset,
            .expected = {},
            .ticket = {},
            .completion = {},
            .may_end_early = false};
  }

  void write(std::uint64_t offset, std::size_t size_bytes) {
    Pending pending = pending_at(Direction::kWrite, offset, size_bytes);
    settle_neighbours(pending);
    pending.expected.resize(size_bytes);
    std::uint64_t word = random_();
    for (std::byte& b : pending.expected)
      b = static_cast<std::byte>((word += 0x9e3779b97f4a7c15) >> 56);
    Buffer buffer = memory_for(pending);
    std::copy(pending.expected.begin(), pending.expected.end(),
              buffer.data() + pending.buffer_offset);
    start(std::move(pending), std::move(buffer));
  }

  void read(std::uint64_t offset, std::size_t size_bytes) {
    Pending pending = pending_at(Direction::kRead, offset, size_bytes);
    settle_neighbours(pending);
    // What writes that are under way will add is not there yet.
    if (pending.end() > settled_bytes_) settle_all();
    std::uint64_t end = std::min<std::uint64_t>(pending.end(), model_.size());
    if (offset < end) {
      pending.expected.assign(model_.begin() + static_cast<std::ptrdiff_t>(offset),
                              model_.begin() + static_cast<std::ptrdiff_t>(end));
    }
    Buffer buffer = memory_for(pending);
    start(std::move(pending), std::move(buffer));
  }

  // Ends whatever shares a byte with the request, unless both read, and reads past the end of the
  // file, which a write may move.
  void settle_neighbours(const Pending& pending) {
    auto shares = [&](const Pending& other) {
      bool both_read = pending.direction == Direction::kRead && other.direction == Direction::kRead;
      bool past_end = other.direction == Direction::kRead && other.end() > settled_bytes_;
      if (!both_read && past_end) return true;
      return !both_read && pending.offset < other.end() && other.offset < pending.end();
    };
    while (std::any_of(pending_.begin(), pending_.end(), shares)) settle_oldest();
  }

  void settle_all() {
    while (!pending_.empty()) settle_oldest();
  }

  void settle_oldest() {
    if (pending_.empty()) return;
    Pending pending = std::move(pending_.front());
    pending_.pop_front();
    Completion done = pending.wait();
    if (!done.buffer && !done.transferred &&
        done.transferred.error().kind == ErrorKind::kDeadline && pending.may_end_early) {
      return;  // the kernel has it yet
    }
    SPILLWAY_CHECK(done.buffer, "the Buffer is not back");
    expect_guards(pending, done.buffer);
    if (done.transferred) {
      SPILLWAY_CHECK(*done.transferred == pending.size_bytes, "another number of bytes");
    }
    pending.direction == Direction::kRead ? expect_read(pending, done)
                                          : settle_write(pending, done.transferred);
  }

  void expect_read(const Pending& pending, const Completion& done) {
    bool whole = pending.expected.size() == pending.size_bytes;
    if (done.transferred) {
      SPILLWAY_CHECK(whole, "read bytes that the file has not");
      SPILLWAY_CHECK(std::equal(pending.expected.begin(), pending.expected.end(),
                                done.buffer.data() + pending.buffer_offset),
                     "read other bytes");
      return;
    }
    const Error& error = done.transferred.error();
    SPILLWAY_CHECK(error.got <= pending.expected.size(), "counts bytes that the file has not");
    SPILLWAY_CHECK(std::equal(pending.expected.begin(),
                              pending.expected.begin() + static_cast<std::ptrdiff_t>(error.got),
                              done.buffer.data() + pending.buffer_offset),
                   "counts bytes as read that are others");
    if (may_fail_ || ended_early_ || pending.may_end_early) return;
    SPILLWAY_CHECK(!whole, "a read failed though nothing was to fail");
    SPILLWAY_CHECK(error.kind == ErrorKind::kShortTransfer, "another error than the file's end");
    SPILLWAY_CHECK(error.got == pending.expected.size(), "read less than the file has");
  }

  void settle_write(const Pending& pending, const Result<std::size_t>& transferred) {
    if (transferred) return apply(pending, pending.expected);
    SPILLWAY_CHECK(may_fail_ || ended_early_ || pending.may_end_early,
                   "a write failed though nothing was to fail");
    settle_all();  // what is under way may yet change the size
    Bytes now = plain_contents();
    SPILLWAY_CHECK(transferred.error().got <= pending.size_bytes, "counts more than was asked");
    Bytes kept;
    for (std::uint64_t at = pending.offset; at < std::min<std::uint64_t>(pending.end(), now.size());
         ++at) {
      std::byte fresh = pending.expected[at - pending.offset];
      std::byte old = at < model_.size() ? model_[at] : std::byte{0};
      bool counted = at - pending.offset < transferred.error().got;
      SPILLWAY_CHECK(now[at] == fresh || (now[at] == old && !counted),
                     counted ? "counts bytes as written that are not" : "neither old nor new");
      kept.push_back(now[at]);
    }
    apply(pending, kept);
    // A write that failed may have made the file longer, by zeros.
    model_.resize(std::max(model_.size(), now.size()));
    settled_bytes_ = model_.size();
  }

  void apply(const Pending& pending, const Bytes& bytes) {
    if (bytes.empty()) return;
    std::uint64_t end = pending.offset + bytes.size();
    if (end > model_.size()) model_.resize(end);
    std::copy(bytes.begin(), bytes.end(),
              model_.begin() + static_cast<std::ptrdiff_t>(pending.offset));
    settled_bytes_ = model_.size();
  }

  Bytes plain_contents() const {
    Bytes bytes(std::filesystem::file_size(path_));
    int fd = ::open(path_.c_str(), O_RDONLY);
    SPILLWAY_CHECK(::pread(fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
                   "the file cannot be read");
    ::close(fd);
    return bytes;
  }

  void expect_file() {
    Bytes now = plain_contents();
    SPILLWAY_CHECK(now.size() == model_.size(), "the file has another size");
    SPILLWAY_CHECK(now == model_, "the file has other bytes");
  }

  FuzzedDataProvider& in_;
  std::mt19937_64 random_;
  std::filesystem::path path_;
  EngineOptions options_;
  std::shared_ptr<SimulatorControl> control_;
  Buffer arena_;
  std::atomic<int> arena_users_{0};
  std::optional<File> file_;
  std::unique_ptr<Engine> engine_;  // goes before what its requests use
  std::span<std::byte> registered_;
  std::deque<Pending> pending_;
  Bytes model_;
  std::uint64_t settled_bytes_ = 0;  // of the file, when all under way would fail
  bool may_fail_ = false;
  bool ended_early_ = false;
};

}  // namespace
}  // namespace spillway::aio

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const spillway::Scratch scratch;
  FuzzedDataProvider in(data, size);
  spillway::aio::Session(in, scratch).run();
  return 0;
}
