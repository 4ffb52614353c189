#include <spillway/aio/check.h>
#include <spillway/aio/stopwatch.h>
#include <spillway/swapper/tile_stream.h>
#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include "busy_time.h"

namespace spillway::swapper {
namespace {

using Clock = std::chrono::steady_clock;

bool resident(const Part& part) {
  for (std::uint32_t plane = part.planes.first; plane < part.planes.first + part.planes.count;
       ++plane) {
    if (part.tier->resident(part.tile, plane) == nullptr) return false;
  }
  return true;
}

std::size_t moved_bytes(const Part& part) {
  return part.tier->layout().range_bytes(part.planes, part.tier->tile_elements(part.tile));
}

// The buffers one item asks of its pools can all be had at one time: then the stream, which waits
// only while it holds nothing, always goes on.
void check_pools(const Item& item) {
  for (const Part& part : item) {
    SPILLWAY_CHECK(part.tier != nullptr && part.planes.count > 0, "a part names planes of a tier");
    if (resident(part)) continue;
    SPILLWAY_CHECK(part.pool != nullptr, "a part that must be moved needs a pool");
    SPILLWAY_CHECK(moved_bytes(part) <= part.pool->buffer_bytes(),
                   "a part does not fit into a buffer of its pool");
    const auto shares_pool = [&](const Part& other) {
      return other.pool == part.pool && !resident(other);
    };
    SPILLWAY_CHECK(
        std::size_t(std::ranges::count_if(item, shares_pool)) <= part.pool->buffer_count(),
        "an item's parts exceed the buffers of their pool");
  }
}

// A plane that is written is used once in the whole sequence, or a read ahead of the write would
// see the old bytes.
void check_uses(std::span<const Item> items) {
  using Use = std::tuple<const Tier*, TileId, std::uint32_t, std::uint32_t, bool>;
  std::vector<Use> uses;  // tier, tile, first plane, end, written
  for (const Item& item : items) {
    for (const Part& part : item) {
      uses.emplace_back(part.tier, part.tile, part.planes.first,
                        part.planes.first + part.planes.count, part.access != Access::kRead);
    }
  }
  std::ranges::sort(uses);
  std::uint32_t end = 0;  // of the planes seen of the tile
  bool written = false;   // whether one of them is
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const auto& [tier, tile, first, last, writes] = uses[i];
    const bool same_tile =
        i > 0 && std::get<0>(uses[i - 1]) == tier && std::get<1>(uses[i - 1]) == tile;
    const bool overlaps = same_tile && first < end;
    SPILLWAY_CHECK(!overlaps || !(written || writes), "a written plane is used by one item only");
    written = overlaps ? written || writes : writes;
    end = same_tile ? std::max(end, last) : last;
  }
}

class GivenItems final : public TileStream::Source {
 public:
  explicit GivenItems(std::span<const Item> items) : items_(items) {}
  std::optional<std::size_t> next(bool, const StreamStats&) override {
    if (next_ == items_.size()) return std::nullopt;
    return next_++;
  }
  const Item& item(std::size_t number) const override { return items_[number]; }

 private:
  const std::span<const Item> items_;
  std::size_t next_ = 0;
};

}  // namespace

// One call of run(): what has been read ahead, and what is being written behind.
class TileStream::Run {
 public:
  Run(Source& source, const Compute& compute, const Written& written)
      : source_(source), compute_(compute), written_(written) {}

  Result<StreamStats> run() {
    Result<void> outcome;
    while (outcome && !ended_) outcome = step();
    outcome = drain(std::move(outcome));
    if (!outcome) return tl::unexpected(std::move(outcome.error()));
    return stats();
  }

 private:
  // Items that need no buffer are not bounded by a pool.
  static constexpr std::size_t kMaxItemsAhead = 64;

  struct Write {
    std::size_t item = 0;
    Transfer transfer;
    std::size_t span = 0;  // in busy_
  };

  // What one item holds; all of it has one entry per part.
  struct Held {
    std::size_t item = 0;
    std::vector<pinned_pool::Lease> leases;
    std::vector<Transfer> reads;
    std::vector<std::size_t> read_spans;               // in busy_
    std::vector<std::unique_ptr<RangeChecks>> checks;  // null: by the stream, or none
    std::vector<PartView> views;
  };

  StreamStats stats() const {
    StreamStats stats = stats_;
    stats.seconds = seconds_since(begin_) - idle_seconds_;
    const double busy = busy_.seconds();
    if (busy > 0) stats.drive_idle_seconds = std::max(0.0, stats.seconds - busy);
    return stats;
  }

  Result<void> step() {
    if (auto reaped = reap_finished_writes(); !reaped) return reaped;
    while (ahead_.size() < kMaxItemsAhead && named(/*wait=*/false) && start(*named_)) {
      named_.reset();
    }
    if (ahead_.empty()) return go_on_without_items();
    const std::size_t item = ahead_.front().item;
    while (!source_.ready(item, /*wait=*/writes_.empty())) {
      if (auto written = finish_oldest_write(); !written) return written;
    }
    if (auto read = finish_reads(ahead_.front()); !read) return read;
    {
      const Stopwatch watch(stats_.compute_seconds);
      if (auto computed = compute_(item, ahead_.front().views); !computed) return computed;
    }
    start_writes();
    return {};
  }

  // Has the next item to start in named_; false when there is none.
  bool named(bool wait) {
    if (named_) return true;
    const Clock::time_point asked = Clock::now();
    named_ = source_.next(wait, stats());
    if (wait) idle_seconds_ += seconds_since(asked);
    return named_.has_value();
  }

  // Nothing is read ahead: for want of buffers, or of items.
  Result<void> go_on_without_items() {
    if (named_) {
      if (auto started = start_first(*named_); !started) return started;
      named_.reset();
      return {};
    }
    if (writes_.empty()) {
      ended_ = !named(/*wait=*/true);
      return {};
    }
    const Stopwatch watch(stats_.write_wait_seconds);
    return finish_oldest_write();
  }

  // Takes the buffers of the item, all or none, and starts its reads. False when one is missing.
  bool start(std::size_t item) {
    const Item& parts = source_.item(item);
    check_pools(parts);
    Held held = take_shell();
    held.item = item;
    held.leases.resize(parts.size());
    held.reads.resize(parts.size());
    held.read_spans.resize(parts.size());
    held.checks.resize(parts.size());
    held.views.resize(parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (resident(parts[i])) continue;
      held.leases[i] = parts[i].pool->try_acquire();
      if (held.leases[i]) continue;
      missing_ = parts[i].pool;
      held.leases.clear();
      shells_.push_back(std::move(held));
      return false;
    }
    for (std::size_t i = 0; i < parts.size(); ++i) start_part(parts[i], held, i);
    ahead_.push_back(std::move(held));
    return true;
  }

  void start_part(const Part& part, Held& held, std::size_t i) {
    held.checks[i] = nullptr;
    if (held.leases[i] && part.checksums == Checksums::kInCompute) {
      held.checks[i] = part.tier->range_checks(part.tile, part.planes);
    }
    held.views[i].part_ = &part;
    held.views[i].elements_ = part.tier->tile_elements(part.tile);
    held.views[i].base_ = held.leases[i].data();
    held.views[i].checks_ = held.checks[i].get();
    if (!held.leases[i] || part.access == Access::kWrite) return;
    pinned_pool::Lease lease = std::move(held.leases[i]);
    held.read_spans[i] = busy_.start(Clock::now());
    held.reads[i] = held.checks[i] != nullptr
                        ? held.checks[i]->read(std::move(lease), aio::Priority::kNormal)
                        : part.tier->read(part.tile, part.planes, std::move(lease));
  }

  // As start, but waits: for the stream's own writes, oldest first; when none is left it holds no
  // buffer at all, and waits for those that others have taken from the pool.
  Result<void> start_first(std::size_t item) {
    if (start(item)) return {};
    if (auto usable = missing_->usable(); !usable) return usable;
    const Stopwatch watch(stats_.write_wait_seconds);
    while (!writes_.empty()) {
      if (auto written = finish_oldest_write(); !written) return written;
      if (start(item)) return {};
    }
    aio::Patience patience(Clock::now() + Transfer::kDefaultTimeout);
    // What is acquired is given back at once, as start takes all or none. When the item needs more
    // than is free, look again a little later and leave the processor to those who have it.
    while (!patience.is_over()) {
      const bool free = static_cast<bool>(missing_->acquire_until(patience.next_look()));
      if (free && start(item)) return {};
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return make_error(ErrorKind::kDeadline, "wait for a buffer", "",
                      "others held the pool's buffers for " +
                          std::to_string(Transfer::kDefaultTimeout.count()) + " s");
  }

  Result<void> finish_reads(Held& held) {
    const Stopwatch watch(stats_.read_wait_seconds);
    for (std::size_t i = 0; i < held.reads.size(); ++i) {
      if (!held.reads[i].valid()) continue;
      auto lease = finish(held.reads[i], held.read_spans[i]);
      if (!lease) return tl::unexpected(std::move(lease.error()));
      held.leases[i] = std::move(*lease);
      held.views[i].base_ = held.leases[i].data();
    }
    return {};
  }

  void start_writes() {
    Held& held = ahead_.front();
    const std::size_t item = held.item;
    const Item& parts = source_.item(item);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (!held.leases[i]) continue;
      const Part& part = parts[i];
      pinned_pool::Lease lease = std::move(held.leases[i]);
      if (part.access == Access::kRead) continue;
      const std::size_t span = busy_.start(Clock::now());
      writes_.push_back({item,
                         held.checks[i] != nullptr
                             ? held.checks[i]->write(std::move(lease))
                             : part.tier->write(part.tile, part.planes, std::move(lease)),
                         span});
    }
    if (written_ && (writes_.empty() || writes_.back().item != item)) written_(item);
    shells_.push_back(std::move(held));
    ahead_.pop_front();
  }

  Result<pinned_pool::Lease> finish(Transfer& transfer, std::size_t span) {
    std::optional<Clock::time_point> ended;
    auto lease = wait_for(transfer, &ended);
    busy_.end(span, ended);
    return lease;
  }

  // An error of its own kind alone tells nothing: the compute function, and a device that has
  // ended, may say kDeadline too.
  Result<pinned_pool::Lease> wait_for(Transfer& transfer, std::optional<Clock::time_point>* ended) {
    auto lease = transfer.wait(Transfer::kDefaultTimeout, ended);
    overrun_ |= !lease && lease.error().kind == ErrorKind::kDeadline && !ended->has_value();
    return lease;
  }

  Result<void> finish_oldest_write() {
    const std::size_t item = writes_.front().item;
    auto lease = finish(writes_.front().transfer, writes_.front().span);
    writes_.pop_front();
    if (!lease) return tl::unexpected(std::move(lease.error()));
    if (written_ && (writes_.empty() || writes_.front().item != item)) written_(item);
    return {};
  }

  Result<void> reap_finished_writes() {
    while (!writes_.empty() && writes_.front().transfer.done()) {
      if (auto written = finish_oldest_write(); !written) return written;
    }
    return {};
  }

  // Waits for all transfers in flight. After one that is not over in time it does not: the next
  // wait would take as long, and Transfers may be dropped.
  Result<void> drain(Result<void> outcome) {
    const Stopwatch watch(stats_.write_wait_seconds);
    const auto settle = [&](Transfer& transfer) {
      if (!transfer.valid() || overrun_) return;
      std::optional<Clock::time_point> ended;
      auto lease = wait_for(transfer, &ended);
      if (!lease && outcome) outcome = tl::unexpected(std::move(lease.error()));
    };
    for (Held& held : ahead_) {
      for (Transfer& read : held.reads) settle(read);
    }
    while (outcome && !writes_.empty()) outcome = finish_oldest_write();
    for (Write& write : writes_) settle(write.transfer);
    return outcome;
  }

  // An empty Held that keeps the vectors of an earlier item: no allocation in the steady state.
  Held take_shell() {
    if (shells_.empty()) return {};
    Held shell = std::move(shells_.back());
    shells_.pop_back();
    return shell;
  }

  Source& source_;
  const Compute& compute_;
  const Written& written_;
  std::optional<std::size_t> named_;  // the item to start next
  bool ended_ = false;
  bool overrun_ = false;      // a transfer was not over in time
  std::deque<Held> ahead_;    // items started and not yet computed, in order
  std::deque<Write> writes_;  // oldest first
  std::vector<Held> shells_;
  pinned_pool::Pool* missing_ = nullptr;  // the pool that had no buffer last
  const Clock::time_point begin_ = Clock::now();
  double idle_seconds_ = 0;  // waited for items
  StreamStats stats_;        // without what stats() adds
  BusyTime busy_;            // of the drives
};

Result<StreamStats> TileStream::run(std::span<const Item> items, const Compute& compute,
                                    const Written& written) {
  check_uses(items);
  GivenItems given(items);
  return Run(given, compute, written).run();
}

Result<StreamStats> TileStream::run(Source& source, const Compute& compute,
                                    const Written& written) {
  return Run(source, compute, written).run();
}

Result<StreamStats> TileStream::for_each_tile(Tier& tier, Access access, pinned_pool::Pool& pool,
                                              const Visit& visit) {
  std::vector<Item> items(tier.tile_count());
  for (TileId tile = 0; tile < items.size(); ++tile) {
    items[tile] = {{.tier = &tier,
                    .tile = tile,
                    .planes = tier.layout().all(),
                    .access = access,
                    .pool = &pool}};
  }
  return run(items, [&](std::size_t item, std::span<const PartView> parts) {
    visit(static_cast<TileId>(item), parts[0]);
    return Result<void>{};
  });
}

}  // namespace spillway::swapper
