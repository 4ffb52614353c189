// Host memory for the weights of a unit, where a test looks at them.
#pragma once

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "trainer/states/incoming_unit.h"

namespace spillway::trainer::testing {

// An IncomingUnit, and the fp32 values that come.
struct HostUnit {
  explicit HostUnit(const UnitPartition& partition)
      : values(std::make_shared<std::vector<float>>(partition.full_elements())),
        incoming(std::make_shared<IncomingUnit>(partition, sizeof(float),
                                                std::make_unique<Destination>(values))) {}

  std::shared_ptr<std::vector<float>> values;
  std::shared_ptr<IncomingUnit> incoming;

 private:
  class Destination final : public WeightDestination {
   public:
    explicit Destination(std::shared_ptr<std::vector<float>> values) : values_(std::move(values)) {}
    void copy(std::uint64_t offset_bytes, std::span<const std::byte> weights) override {
      std::memcpy(reinterpret_cast<std::byte*>(values_->data()) + offset_bytes, weights.data(),
                  weights.size());
    }

   private:
    const std::shared_ptr<std::vector<float>> values_;
  };
};

}  // namespace spillway::trainer::testing
