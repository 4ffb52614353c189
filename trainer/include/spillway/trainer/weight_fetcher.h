// WeightFetcher: brings units' weights to the device and lets go of them.
//
// `acquire` reads this rank's tiles, all-gathers the parts, and points the modules' parameters into
// one flat array; `release` empties them again. The order of use repeats, so after each acquire the
// tiles of the unit that came next the last time are read ahead into whatever buffers are free.
// The weights acquired last stay in memory until another unit is wanted: the head's forward is
// followed by its own backward, and one read serves both.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/model_states.h>

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

namespace spillway::trainer {

enum class Phase : std::uint8_t { kForward, kBackward };

class WeightFetcher {
 public:
  explicit WeightFetcher(ModelStates& states) : states_(&states) {}
  ~WeightFetcher();

  // Blocks. Throws Failure; all ranks must call it in the same order.
  void acquire(UnitId unit, Phase phase);
  void release(UnitId unit);
  // Forgets what is in memory or on its way: the tiles are about to change. Blocks.
  void invalidate();
  // Starts a sweep (a step, an evaluation): nothing is predicted across its beginning.
  void begin_sweep() noexcept { previous_.reset(); }

  double wait_seconds() const noexcept { return wait_seconds_; }
  std::uint64_t resident_bytes() const noexcept;  // now
  std::uint64_t peak_resident_bytes() const noexcept { return peak_bytes_; }

 private:
  using Use = std::pair<UnitId, Phase>;
  struct Read {
    swapper::TileId tile;
    swapper::Transfer transfer;
  };

  void load(UnitId unit);
  void attach(UnitId unit, const at::Tensor& flat);
  void detach(UnitId unit);
  void expect(UnitId unit);
  void start_reads(UnitId unit, bool wait_for_first);
  void copy_tile(swapper::TileId tile, const at::Tensor& destination);
  at::Tensor take_flat(std::int64_t elements);
  void read_ahead(const Use& now);
  void drop_reads();

  ModelStates* states_;
  std::map<UnitId, at::Tensor> loaded_;  // flat weights of the units in memory
  std::vector<at::Tensor> spare_;        // flat arrays to use again
  UnitId reading_ = 0;                   // whose tiles `reads_` holds
  std::size_t next_tile_ = 0;            // first tile of `reading_` that is not started
  std::deque<Read> reads_;
  std::optional<Use> previous_;
  std::map<Use, Use> follows_;
  double wait_seconds_ = 0;
  std::uint64_t peak_bytes_ = 0;
};

}  // namespace spillway::trainer
