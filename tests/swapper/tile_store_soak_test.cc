// Random tiles, planes, generations and transfers in flight, against a model in RAM.
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>

#include "store_fixture.h"
#include "support/seed.h"

namespace spillway::swapper {
namespace {

using pinned_pool::Lease;

struct Case {
  const char* name;
  aio::BackendKind backend;
  std::vector<Plane> planes;
};

class TileStoreSoak : public testing::TestWithParam<Case> {};

// What a tile should hold: a version of each plane, none when it was never written.
struct Model {
  std::vector<std::optional<std::uint32_t>> planes;
  std::optional<std::vector<std::optional<std::uint32_t>>> kept;
  bool moved = false;  // written since it was kept
};

// One transfer under way and how it must end.
struct Flight {
  Transfer transfer;
  TileId tile;
  PlaneRange planes;
  bool reads;
  std::vector<std::optional<std::uint32_t>> expected;
};

class Soak {
 public:
  Soak(TileStore& store, unsigned seed) : store_(store), random_(seed) {
    models_.resize(store.tile_count());
    for (Model& model : models_) model.planes.resize(store.layout().plane_count());
  }

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFatalFailure(); ++i) {
      const TileId tile = random_() % store_.tile_count();
      settle_all_of(tile);
      switch (random_() % 8) {
        case 0:
          keep(tile);
          break;
        case 1:
          end_generation(tile);
          break;
        case 2:
        case 3:
        case 4:
          write(tile);
          break;
        default:
          read(tile);
          break;
      }
      while (flights_.size() > 6) settle_oldest();
    }
    while (!flights_.empty()) settle_oldest();
    for (TileId tile = 0; tile < store_.tile_count(); ++tile) read_all(tile);
    while (!flights_.empty()) settle_oldest();
  }

 private:
  PlaneRange some_planes() {
    const std::uint32_t count = store_.layout().plane_count();
    const std::uint32_t first = random_() % count;
    return {.first = first, .count = 1 + std::uint32_t(random_() % (count - first))};
  }

  void keep(TileId tile) {
    Model& model = models_[tile];
    if (model.kept) return;
    const auto kept = store_.keep_generation(tile);
    if (!kept) {
      EXPECT_EQ(kept.error().kind, ErrorKind::kNoSpace);
      return;
    }
    model.kept = model.planes;
    model.moved = false;
  }

  void end_generation(TileId tile) {
    Model& model = models_[tile];
    if (!model.kept) return;
    if (random_() % 2 == 0) {
      store_.roll_back(tile);
      model.planes = *model.kept;
    } else {
      store_.drop_kept(tile);
    }
    model.kept.reset();
  }

  void write(TileId tile) {
    Model& model = models_[tile];
    const bool must_cover_all = model.kept && !model.moved;
    const PlaneRange planes = must_cover_all ? store_.layout().all() : some_planes();
    const std::uint64_t elements = store_.tile_elements(tile);
    Lease lease = heap_lease(store_.layout().range_bytes(planes, elements));
    fill(lease.data(), store_.layout(), elements, planes, ++version_);
    for (std::uint32_t i = 0; i < planes.count; ++i) model.planes[planes.first + i] = version_;
    model.moved = true;
    flights_.push_back(
        {store_.write(tile, planes, std::move(lease)), tile, planes, false, model.planes});
  }

  void read(TileId tile) { read(tile, some_planes()); }
  void read_all(TileId tile) { read(tile, store_.layout().all()); }
  void read(TileId tile, PlaneRange planes) {
    Lease lease = heap_lease(store_.layout().range_bytes(planes, store_.tile_elements(tile)));
    flights_.push_back(
        {store_.read(tile, planes, std::move(lease)), tile, planes, true, models_[tile].planes});
  }

  void settle_all_of(TileId tile) {
    while (std::ranges::any_of(flights_, [&](auto& flight) { return flight.tile == tile; })) {
      settle_oldest();
    }
  }

  void settle_oldest() {
    Flight flight = std::move(flights_.front());
    flights_.pop_front();
    const auto lease = flight.transfer.wait();
    bool written = true;
    for (std::uint32_t i = 0; i < flight.planes.count; ++i) {
      written = written && flight.expected[flight.planes.first + i];
    }
    if (!written) {
      ASSERT_FALSE(lease);
      ASSERT_EQ(lease.error().kind, ErrorKind::kInvalid);
      return;
    }
    ASSERT_TRUE(lease) << lease.error().message();
    if (!flight.reads) return;
    const std::uint64_t elements = store_.tile_elements(flight.tile);
    for (std::uint32_t plane = flight.planes.first;
         plane < flight.planes.first + flight.planes.count; ++plane) {
      const std::byte* const data =
          lease->data() + store_.layout().plane_offset(plane, elements, flight.planes.first);
      ASSERT_TRUE(holds(data, store_.layout(), elements, {.first = plane, .count = 1},
                        *flight.expected[plane]))
          << "tile " << flight.tile << " plane " << plane;
    }
  }

  TileStore& store_;
  std::mt19937 random_;
  std::vector<Model> models_;
  std::deque<Flight> flights_;
  std::uint32_t version_ = 0;
};

TEST_P(TileStoreSoak, HoldsWhatTheModelHolds) {
  const auto engine = make_engine(GetParam().backend);
  if (engine == nullptr) GTEST_SKIP() << "no " << GetParam().name << " on this machine";
  const auto seed = static_cast<unsigned>(test_seed(1));
  const Scratch first;
  const Scratch second;
  std::mt19937 random(seed);
  std::vector<std::uint64_t> elements(12, 40'000);
  for (int i = 0; i < 6; ++i) elements.push_back(1 + random() % 300'000);
  auto store = TileStore::create(*engine, Layout(GetParam().planes), elements,
                                 {.directories = {first.path(), second.path()},
                                  .segment_bytes = 1 << 20,
                                  .spare_fraction = 0.4});
  ASSERT_TRUE(store) << store.error().message();
  Soak soak(**store, seed);
  const auto until = std::chrono::steady_clock::now() + test_minutes();
  do {
    soak.run(600);
  } while (std::chrono::steady_clock::now() < until && !HasFatalFailure());
}

const std::vector<Plane> kOne{{"param", 2}};
const std::vector<Plane> kThree{{"param_lo", 2}, {"exp_avg", 4}, {"exp_avg_sq", 4}};
const std::vector<Plane> kSix{{"param_hi", 2},           {"param_lo", 2},   {"exp_avg", 1},
                              {"exp_avg_scale", 4, 256}, {"exp_avg_sq", 1}, {"sq_scale", 4, 256}};

INSTANTIATE_TEST_SUITE_P(
    Backends, TileStoreSoak,
    testing::Values(Case{"io_uring_one_plane", aio::BackendKind::kIoUring, kOne},
                    Case{"io_uring_three_planes", aio::BackendKind::kIoUring, kThree},
                    Case{"io_uring_six_planes", aio::BackendKind::kIoUring, kSix},
                    Case{"threads_one_plane", aio::BackendKind::kThreadPool, kOne},
                    Case{"threads_three_planes", aio::BackendKind::kThreadPool, kThree},
                    Case{"threads_six_planes", aio::BackendKind::kThreadPool, kSix}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace spillway::swapper
