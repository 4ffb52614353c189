// The update of one tile: the bits of the kernel's reference for any executor and any pieces, in
// RAM and from files.
#include "trainer/stream/tile_update.h"

#include <gtest/gtest.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch.h"
#include "trainer/plan/optimizer_layout.h"

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kElements = 3 * swapper::PartView::kRangeElements + 1000;
constexpr OptimizerFormat kFormat{.weights = Dtype::kBf16};

// Tasks by turns on two threads.
void on_two_threads(std::uint64_t count, const std::function<void(std::uint64_t)>& task) {
  const auto from = [&](std::uint64_t first) {
    for (std::uint64_t i = first; i < count; i += 2) task(i);
  };
  std::thread odd([&] { from(1); });
  from(0);
  odd.join();
}

class TileUpdateTest : public ::testing::Test {
 protected:
  static swapper::Layout weights() { return weight_layout(kFormat); }
  static swapper::Layout states() { return optimizer_layout(kFormat); }

  void SetUp() override {
    engine_ = value_or_throw(aio::Engine::create({}));
    const std::size_t most =
        std::max(weights().tile_bytes(kElements), states().tile_bytes(kElements));
    pool_ = value_or_throw(pinned_pool::Pool::create(
        {.buffer_bytes = most, .buffer_count = 4, .name = "test"}, engine_.get()));
    for (std::size_t i = 0; i < kElements; ++i) {
      gradient_.push_back(static_cast<float>(i % 101) * 0.01f - 0.5f);
    }
  }
  std::unique_ptr<swapper::Tier> in_ram(const swapper::Layout& layout) {
    return value_or_throw(
        swapper::make_ram_tier(layout, {kElements}, {.lock = pinned_pool::Policy::kOff}));
  }
  // In a directory of its own.
  std::unique_ptr<swapper::Tier> on_files(const swapper::Layout& layout, const std::string& name) {
    std::filesystem::create_directory(scratch_ / name);
    auto store = value_or_throw(swapper::TileStore::create(*engine_, layout, {kElements},
                                                           {.directories = {scratch_ / name}}));
    auto lease = pool_->acquire();
    std::fill_n(lease.data(), lease.capacity(), std::byte{0});
    value_or_throw(store->write(0, layout.all(), std::move(lease)).wait());
    return store;
  }
  UpdateConstants at_step(std::uint64_t step) const {
    return UpdateConstants::at_step({.learning_rate = 0.01, .weight_decay = 0.1}, step, 0.5f);
  }
  // As pieces at these offsets, each with a gradient array of its own.
  TileUpdate cut_at(const std::vector<std::uint64_t>& offsets, std::uint64_t step) {
    TileUpdate update{.format = kFormat, .pieces = {}, .first_element = 7};
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      const std::uint64_t end = i + 1 == offsets.size() ? kElements : offsets[i + 1];
      scattered_.emplace_back(gradient_.begin() + static_cast<std::ptrdiff_t>(offsets[i]),
                              gradient_.begin() + static_cast<std::ptrdiff_t>(end));
      update.pieces.push_back({.offset = offsets[i],
                               .elements = end - offsets[i],
                               .gradient = scattered_.back().data(),
                               .constants = at_step(step)});
    }
    return update;
  }
  // Three steps; returns the weights and the states.
  std::vector<std::byte> updated(swapper::Tier& weight_tier, swapper::Tier& state_tier,
                                 const std::vector<std::uint64_t>& offsets, const Executor& run) {
    const auto part = [&](swapper::Tier& tier) {
      return swapper::Part{.tier = &tier,
                           .tile = 0,
                           .planes = tier.layout().all(),
                           .access = swapper::Access::kReadWrite,
                           .pool = pool_.get(),
                           .checksums = swapper::Checksums::kInCompute};
    };
    const std::vector<swapper::Item> items{{part(weight_tier), part(state_tier)}};
    std::vector<std::byte> bytes;
    for (std::uint64_t step = 1; step <= 3; ++step) {
      const TileUpdate update = cut_at(offsets, step);
      value_or_throw(swapper::TileStream::run(items, [&](std::size_t, auto parts) {
        auto done = update_tile(update, parts, run);
        bytes.clear();
        for (const swapper::PartView& view : parts) {
          const swapper::Layout& layout = &view == &parts[0] ? weight_planes_ : state_planes_;
          for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
            const std::size_t size = kElements * layout.planes()[plane].bytes_per_block;
            bytes.insert(bytes.end(), view.plane(plane), view.plane(plane) + size);
          }
        }
        return done;
      }));
    }
    return bytes;
  }
  // By the kernel's reference, with one gradient array.
  std::vector<std::byte> expected() {
    std::vector<std::uint16_t> hi(kElements), lo(kElements);
    std::vector<float> first(kElements), second(kElements);
    UpdatePlanes planes{.format = kFormat,
                        .weight = hi.data(),
                        .weight_lo = lo.data(),
                        .states = {first.data(), second.data()},
                        .gradient = gradient_.data(),
                        .first_element = 7};
    for (std::uint64_t step = 1; step <= 3; ++step) {
      update_range_reference(at_step(step), planes, 0, kElements);
    }
    std::vector<std::byte> bytes;
    const auto append = [&](auto& plane) {
      for (const std::byte byte : std::as_bytes(std::span(plane))) bytes.push_back(byte);
    };
    append(hi);
    append(lo);
    append(first);
    append(second);
    return bytes;
  }

  const swapper::Layout weight_planes_ = weights();
  const swapper::Layout state_planes_ = states();
  const Scratch scratch_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::vector<float> gradient_;
  std::vector<std::vector<float>> scattered_;
};

TEST_F(TileUpdateTest, HasTheBitsOfTheReference) {
  const std::vector<std::byte> same = expected();
  for (const Executor& run : {Executor(run_in_order), Executor(on_two_threads)}) {
    for (const std::vector<std::uint64_t>& offsets :
         {std::vector<std::uint64_t>{0}, {0, 1, 65, 4096, 5000, 70'001}}) {
      const auto weight_tier = in_ram(weight_planes_);
      const auto state_tier = in_ram(state_planes_);
      EXPECT_EQ(updated(*weight_tier, *state_tier, offsets, run), same);
      const auto weight_store = on_files(weight_planes_, "weights");
      const auto state_store = on_files(state_planes_, "states");
      EXPECT_EQ(updated(*weight_store, *state_store, offsets, run), same);
    }
  }
}

TEST_F(TileUpdateTest, EveryTaskRunsOnce) {
  std::vector<int> runs(10);
  run_in_order(10, [&](std::uint64_t task) { ++runs[task]; });
  EXPECT_EQ(runs, std::vector<int>(10, 1));
}

}  // namespace
}  // namespace spillway::trainer
