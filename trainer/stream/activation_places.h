// ActivationPlaces: memory or tiles for activations, made when one of a size is needed first and
// used again; and the transfers to and from them. Internal to ActivationStore, which locks.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/pinned_pool/slab.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

namespace spillway::trainer {

class ActivationPlaces {
 public:
  using PlaceId = std::size_t;

  explicit ActivationPlaces(ModelStates& states);
  ~ActivationPlaces();

  // A free place for so many bytes. Throws Failure.
  PlaceId take_place(std::uint64_t bytes);
  // Waits for what is under way to and from it.
  void give_back(PlaceId place) noexcept;

  // Starts to bring `activation` there: in RAM it is there on return, to NVMe it is written behind.
  void store(PlaceId place, const at::Tensor& activation);
  // Fills `activation`. What `read_ahead` started is used.
  void load(PlaceId place, at::Tensor activation);
  // Starts to read `place` while buffers are free; false when none is left or it is still being
  // written. REQUIRES: on NVMe.
  bool read_ahead(PlaceId place);
  // Address of a place in RAM.
  std::byte* memory(PlaceId place) const;

  std::uint64_t memory_bytes() const noexcept;
  std::uint64_t storage_bytes() const noexcept;
  double wait_seconds() const noexcept { return wait_seconds_; }

 private:
  struct Place {
    std::uint64_t bytes = 0;  // it holds
    std::optional<pinned_pool::Slab> slab;
    swapper::Tier* store = nullptr;
    swapper::TileId next_read = 0;  // first tile that is not being read
  };
  struct UnderWay {
    PlaceId place;
    swapper::Transfer transfer;
  };

  Place make_place(std::uint64_t bytes);
  void make_pool(std::uint64_t bytes);
  pinned_pool::Lease take_buffer();
  void finish_writes(PlaceId place);
  void drop_reads();
  pinned_pool::Lease wait_for(swapper::Transfer transfer);

  ModelStates* states_;
  bool on_nvme_;
  std::vector<Place> places_;
  std::multimap<std::uint64_t, PlaceId> free_;  // by the bytes they hold
  pinned_pool::Pool* pool_ = nullptr;           // of NVMe
  std::deque<UnderWay> writes_;                 // oldest first
  std::deque<UnderWay> reads_;                  // in the order of need
  double wait_seconds_ = 0;
};

}  // namespace spillway::trainer
