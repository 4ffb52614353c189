// ActivationPlaces: memory or tiles for activations, and the transfers to and from them.
//
// A place is made when the first of its size is needed, and reused. Internal to ActivationStore,
// whose lock covers all calls.
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

  // Returns a free place for `bytes`. Throws Failure.
  PlaceId take_place(std::uint64_t bytes);
  // Frees the place, after its transfers.
  void give_back(PlaceId place) noexcept;

  // Copies `activation` there: done on return in RAM, written behind on NVMe.
  void store(PlaceId place, const at::Tensor& activation);
  // Fills `activation`, from the reads that `read_ahead` started if there are any.
  void load(PlaceId place, at::Tensor activation);
  // Starts to read `place` while buffers are free. False if none is left or it is still written.
  // REQUIRES: on NVMe.
  bool read_ahead(PlaceId place);
  // Returns the address of a place in RAM.
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
  const DeviceKind& kind_;
  bool on_nvme_;
  std::vector<Place> places_;
  std::multimap<std::uint64_t, PlaceId> free_;  // by the bytes they hold
  pinned_pool::Pool* pool_ = nullptr;           // of NVMe
  std::deque<UnderWay> writes_;                 // oldest first
  std::deque<UnderWay> reads_;                  // in the order of need
  double wait_seconds_ = 0;
};

}  // namespace spillway::trainer
