// A tile store against a model in RAM: writes, reads, generations kept, rolled back and dropped,
// and bytes changed behind its back. Reads are verified, and writes recorded, whole or by ranges.
//
// Input: planes, tiles, spare room and backend, then the operations. A read gives the bytes of the
// model, or kCorrupt where a byte was changed, or kInvalid where nothing was ever written.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <spillway/aio/check.h>
#include <spillway/swapper/tile_store.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "support/scratch.h"

namespace spillway::swapper {
namespace {

// The bytes of one plane: no two versions share them.
std::vector<std::byte> plane_contents(std::uint32_t version, std::size_t size_bytes) {
  std::vector<std::byte> bytes(size_bytes);
  std::uint64_t word = std::uint64_t{version} << 32;
  for (std::byte& b : bytes) b = static_cast<std::byte>((word += 0x9e3779b97f4a7c15) >> 56);
  return bytes;
}

struct PlaneModel {
  std::optional<std::uint32_t> version;  // none: never written
  bool changed = false;                  // behind the store's back
};
using Generation = std::vector<PlaneModel>;

struct TileModel {
  std::shared_ptr<Generation> present;  // the same object as `kept` until it is written
  std::shared_ptr<Generation> kept;
  std::uint32_t highest_generation = 0;
};

class Session {
 public:
  Session(FuzzedDataProvider& in, const Scratch& scratch) : in_(in) {
    aio::EngineOptions options{
        .backend = in.ConsumeBool() ? aio::BackendKind::kAuto : aio::BackendKind::kThreadPool,
        .block_size_bytes = 4096u << in.ConsumeIntegralInRange(0, 5),
        .queue_depth = in.ConsumeIntegralInRange<std::uint32_t>(1, 8)};
    auto engine = aio::Engine::create(options);
    SPILLWAY_CHECK(engine.has_value(), "the engine cannot be made");
    engine_ = std::move(*engine);
    std::vector<std::uint64_t> elements(in.ConsumeIntegralInRange<std::size_t>(1, 5));
    // Most tiles are small, for speed; some have several ranges.
    for (std::uint64_t& count : elements) {
      const std::uint64_t most = in.ConsumeIntegralInRange(0, 9) == 0 ? 70'000 : 5000;
      count = in.ConsumeIntegralInRange<std::uint64_t>(1, most);
    }
    const double spare = in.ConsumeIntegralInRange(0, 2) * 0.5;
    std::filesystem::create_directories(scratch / "a");
    std::filesystem::create_directories(scratch / "b");
    auto store = TileStore::create(*engine_, pick_layout(), elements,
                                   {.directories = {scratch / "a", scratch / "b"},
                                    .segment_bytes = 4096u << in.ConsumeIntegralInRange(0, 10),
                                    .spare_fraction = spare});
    SPILLWAY_CHECK(store.has_value(), "the store cannot be made");
    store_ = std::move(*store);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      tiles_.push_back({std::make_shared<Generation>(store_->layout().plane_count()), nullptr, 0});
    }
  }

  void run() {
    for (int i = 0; i < 40 && in_.remaining_bytes() > 0; ++i) step();
    for (TileId tile = 0; tile < tiles_.size(); ++tile) {
      for (std::uint32_t plane = 0; plane < store_->layout().plane_count(); ++plane) {
        read(tile, {.first = plane, .count = 1});
      }
    }
  }

 private:
  Layout pick_layout() {
    std::vector<Plane> planes(in_.ConsumeIntegralInRange<std::size_t>(1, 4));
    for (std::size_t i = 0; i < planes.size(); ++i) {
      planes[i] = {.name = "plane" + std::to_string(i),
                   .bytes_per_block = in_.ConsumeIntegralInRange<std::uint32_t>(1, 8),
                   .elements_per_block = in_.ConsumeBool() ? 1u : 256u};
    }
    return Layout(std::move(planes));
  }

  void step() {
    const auto tile = in_.ConsumeIntegralInRange<TileId>(0, TileId(tiles_.size() - 1));
    const std::uint32_t planes = store_->layout().plane_count();
    const auto first = in_.ConsumeIntegralInRange<std::uint32_t>(0, planes - 1);
    const PlaneRange range{.first = first,
                           .count = in_.ConsumeIntegralInRange<std::uint32_t>(1, planes - first)};
    switch (in_.ConsumeIntegralInRange(0, 8)) {
      case 0:
        return keep(tile);
      case 1:
        return roll_back(tile);
      case 2:
        return drop_kept(tile);
      case 3:
        return change_a_byte(tile, first);
      case 4:
      case 5:
        return read(tile, range);
      default:
        return write(tile, range);
    }
  }

  pinned_pool::Lease lease_for(TileId tile, PlaneRange planes) {
    const std::size_t bytes = store_->layout().range_bytes(planes, store_->tile_elements(tile));
    return pinned_pool::Lease(aio::Buffer::allocate(bytes));
  }

  void write(TileId tile, PlaneRange planes) {
    TileModel& model = tiles_[tile];
    if (model.kept == model.present) {  // the first write after keep_generation: to another place
      planes = store_->layout().all();
      model.present = std::make_shared<Generation>(planes.count);
    }
    const std::uint64_t elements = store_->tile_elements(tile);
    pinned_pool::Lease lease = lease_for(tile, planes);
    for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
      (*model.present)[plane] = {.version = ++last_version_, .changed = false};
      const auto bytes =
          plane_contents(last_version_, store_->layout().plane_bytes(plane, elements));
      std::copy(bytes.begin(), bytes.end(),
                lease.data() + store_->layout().plane_offset(plane, elements, planes.first));
    }
    const auto written = in_.ConsumeBool() ? write_ranges(tile, planes, std::move(lease))
                                           : store_->write(tile, planes, std::move(lease)).wait();
    SPILLWAY_CHECK(written.has_value(), "a write failed");
    expect_generation(tile);
  }

  void read(TileId tile, PlaneRange planes) {
    const Generation& present = *tiles_[tile].present;
    bool written = true;
    bool changed = false;
    for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
      written = written && present[plane].version;
      changed = changed || present[plane].changed;
    }
    const auto lease = in_.ConsumeBool()
                           ? read_ranges(tile, planes)
                           : store_->read(tile, planes, lease_for(tile, planes)).wait();
    if (!written || changed) {
      SPILLWAY_CHECK(!lease, "bytes that were never written, or changed, were taken for good");
      SPILLWAY_CHECK(lease.error().kind == (written ? ErrorKind::kCorrupt : ErrorKind::kInvalid),
                     "another kind of error");
      return;
    }
    SPILLWAY_CHECK(lease.has_value(), "good bytes were refused");
    const std::uint64_t elements = store_->tile_elements(tile);
    for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
      const auto bytes =
          plane_contents(*present[plane].version, store_->layout().plane_bytes(plane, elements));
      const std::byte* at =
          lease->data() + store_->layout().plane_offset(plane, elements, planes.first);
      SPILLWAY_CHECK(std::equal(bytes.begin(), bytes.end(), at), "other bytes");
    }
  }

  // Calls `use` with every range of the tile until one fails.
  template <typename Use>
  Result<void> each_range(TileId tile, Use use) {
    const std::uint64_t elements = store_->tile_elements(tile);
    for (std::uint64_t first = 0; first < elements; first += kRangeElements) {
      const ElementRange range{.first = first, .count = std::min(kRangeElements, elements - first)};
      if (Result<void> used = use(range); !used) return used;
    }
    return {};
  }

  Result<pinned_pool::Lease> write_ranges(TileId tile, PlaneRange planes,
                                          pinned_pool::Lease lease) {
    const auto checks = store_->range_checks(tile, planes);
    (void)each_range(tile, [&](ElementRange range) -> Result<void> {
      checks->record(lease.data(), range);
      return {};
    });
    return checks->write(std::move(lease)).wait();
  }

  Result<pinned_pool::Lease> read_ranges(TileId tile, PlaneRange planes) {
    const auto checks = store_->range_checks(tile, planes);
    auto lease = checks->read(lease_for(tile, planes), aio::Priority::kNormal).wait();
    if (!lease) return lease;
    auto verified =
        each_range(tile, [&](ElementRange range) { return checks->verify(lease->data(), range); });
    if (!verified) return tl::unexpected(std::move(verified.error()));
    return lease;
  }

  void keep(TileId tile) {
    TileModel& model = tiles_[tile];
    if (model.kept != nullptr) return;
    const auto kept = store_->keep_generation(tile);
    if (kept) {
      model.kept = model.present;
    } else {
      SPILLWAY_CHECK(kept.error().kind == ErrorKind::kNoSpace, "another kind of error");
    }
  }

  void roll_back(TileId tile) {
    TileModel& model = tiles_[tile];
    if (model.kept == nullptr) return;
    store_->roll_back(tile);
    model.present = std::move(model.kept);
  }

  void drop_kept(TileId tile) {
    TileModel& model = tiles_[tile];
    if (model.kept == nullptr) return;
    store_->drop_kept(tile);
    model.kept.reset();
  }

  void expect_generation(TileId tile) {
    TileModel& model = tiles_[tile];
    const std::uint32_t now = store_->generation(tile);
    SPILLWAY_CHECK(now >= model.highest_generation || model.kept == nullptr, "a number came twice");
    model.highest_generation = std::max(model.highest_generation, now);
  }

  // As a disk or another program would.
  void change_a_byte(TileId tile, std::uint32_t plane) {
    PlaneModel& model = (*tiles_[tile].present)[plane];
    if (!model.version || model.changed) return;
    const std::uint64_t elements = store_->tile_elements(tile);
    const TileStore::Place place = store_->place(tile);
    const std::size_t bytes = store_->layout().plane_bytes(plane, elements);
    const auto at =
        static_cast<off_t>(place.offset + store_->layout().plane_offset(plane, elements) +
                           in_.ConsumeIntegralInRange<std::size_t>(0, bytes - 1));
    const int fd = ::open(place.path.c_str(), O_RDWR);
    std::byte byte{};
    SPILLWAY_CHECK(::pread(fd, &byte, 1, at) == 1, "the byte cannot be read");
    byte ^= std::byte{static_cast<unsigned char>(1 << in_.ConsumeIntegralInRange(0, 7))};
    SPILLWAY_CHECK(::pwrite(fd, &byte, 1, at) == 1, "the byte cannot be written");
    ::close(fd);
    model.changed = true;
  }

  FuzzedDataProvider& in_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<TileStore> store_;
  std::vector<TileModel> tiles_;
  std::uint32_t last_version_ = 0;
};

}  // namespace
}  // namespace spillway::swapper

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const spillway::Scratch scratch;
  FuzzedDataProvider in(data, size);
  spillway::swapper::Session(in, scratch).run();
  return 0;
}
