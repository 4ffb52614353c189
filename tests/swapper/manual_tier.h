// A Tier in plain memory whose transfers a test observes, delays and makes fail.
//
// A transfer is in flight until its wait() (with finish_at_once, until its start returns). For one
// thread.
#pragma once

#include <spillway/swapper/tier.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace spillway::swapper {

class ManualTier final : public Tier {
 public:
  ManualTier(Layout layout, std::vector<std::uint64_t> tile_elements)
      : layout_(std::move(layout)), tile_elements_(std::move(tile_elements)) {
    for (const std::uint64_t elements : tile_elements_) {
      tiles_.emplace_back(layout_.tile_bytes(elements));
    }
  }

  bool finish_at_once = false;
  std::set<TileId> resident_tiles;
  // Called with "read 3" when a transfer starts. If it returns an Error, the wait fails.
  std::function<std::optional<Error>(const std::string&)> on_start;
  bool tells_when_it_ended = false;  // as a medium does
  std::vector<std::string> log;      // "read 3", "end read 3", ...
  int abandoned = 0;                 // dropped in flight
  int in_flight = 0;
  int most_in_flight = 0;

  std::vector<std::byte>& tile(TileId tile) { return tiles_[tile]; }
  std::byte* plane(TileId tile, std::uint32_t plane) {
    return tiles_[tile].data() + layout_.plane_offset(plane, tile_elements_[tile]);
  }

  const char* name() const noexcept override { return "manual"; }
  const Layout& layout() const noexcept override { return layout_; }
  std::uint32_t tile_count() const noexcept override { return std::uint32_t(tiles_.size()); }
  std::uint64_t tile_elements(TileId tile) const override { return tile_elements_[tile]; }
  std::byte* resident(TileId tile, std::uint32_t plane_number) noexcept override {
    return resident_tiles.contains(tile) ? plane(tile, plane_number) : nullptr;
  }
  Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease, aio::Priority) override {
    return start(true, tile, planes, std::move(lease));
  }
  Transfer write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) override {
    return start(false, tile, planes, std::move(lease));
  }
  TierStats stats() const noexcept override { return {}; }
  std::uint64_t memory_bytes() const noexcept override { return 0; }
  std::uint64_t storage_bytes() const noexcept override { return 0; }

 private:
  class ManualTransfer final : public Transfer::Impl {
   public:
    ManualTransfer(ManualTier& tier, std::string what, std::function<void(std::byte*)> move,
                   pinned_pool::Lease lease, std::optional<Error> error)
        : tier_(tier),
          what_(std::move(what)),
          move_(std::move(move)),
          lease_(std::move(lease)),
          error_(std::move(error)) {
      if (tier_.finish_at_once) end();
    }
    ~ManualTransfer() override {
      tier_.abandoned += ended_ ? 0 : 1;
      end();
    }
    std::optional<std::chrono::steady_clock::time_point> ended() const noexcept override {
      if (!tier_.tells_when_it_ended) return std::nullopt;
      return std::chrono::steady_clock::now();
    }
    bool done() const noexcept override { return ended_; }
    Result<pinned_pool::Lease> finish(std::chrono::steady_clock::time_point) override {
      end();
      if (error_) return tl::unexpected(*error_);
      return std::move(lease_);
    }

   private:
    void end() {
      if (std::exchange(ended_, true)) return;
      if (!error_) move_(lease_.data());
      --tier_.in_flight;
      tier_.log.push_back("end " + what_);
    }

    ManualTier& tier_;
    const std::string what_;
    const std::function<void(std::byte*)> move_;
    pinned_pool::Lease lease_;
    const std::optional<Error> error_;
    bool ended_ = false;
  };

  Transfer start(bool reads, TileId tile, PlaneRange planes, pinned_pool::Lease lease) {
    const std::string what = (reads ? "read " : "write ") + std::to_string(tile);
    log.push_back(what);
    most_in_flight = std::max(most_in_flight, ++in_flight);
    std::byte* const at = plane(tile, planes.first);
    const std::size_t bytes = layout_.range_bytes(planes, tile_elements_[tile]);
    const auto move = [=](std::byte* buffer) {
      std::memcpy(reads ? buffer : at, reads ? at : buffer, bytes);
    };
    return Transfer(std::make_unique<ManualTransfer>(*this, what, move, std::move(lease),
                                                     on_start ? on_start(what) : std::nullopt));
  }

  const Layout layout_;
  const std::vector<std::uint64_t> tile_elements_;
  std::vector<std::vector<std::byte>> tiles_;
};

}  // namespace spillway::swapper
