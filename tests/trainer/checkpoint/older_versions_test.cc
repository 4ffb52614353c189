// Checkpoints of older programs (tests/trainer/data/README.md): what is loaded of one is saved
// again as it was.
#include <spillway/trainer/model_units.h>

#include "tests/trainer/checkpoint/states_fixture.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer::testing {
namespace {

std::vector<std::byte> plane_of(Checkpoint& checkpoint, std::uint32_t parameter,
                                std::uint32_t plane) {
  const std::uint64_t elements = element_count(checkpoint.manifest().parameters[parameter]);
  const std::uint64_t bytes = checkpoint.planes().all[plane].bytes_per_block;
  std::vector<std::byte> values(elements * bytes);
  std::byte* to = values.data();
  for (const Checkpoint::Run& run : checkpoint.find(parameter, 0, elements)) {
    const auto read = checkpoint.read(run.shard, run.extent, plane, run.offset, run.count, to);
    if (!read) throw Failure(read.error());
    to += run.count * bytes;
  }
  return values;
}

class OlderVersionsTest : public CheckpointStatesTest {
 protected:
  void expect_loaded_and_saved_again(const std::filesystem::path& made) {
    auto old = opened(made);
    ASSERT_EQ(old.planes().all.size(), 4u) << "hi, lo and two moments";
    const auto made_of = value_or_throw(read_saved_model(old.manifest().model, made));
    std::uint64_t step = 2;
    for (const OffloadDevice device : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
      Config config = this->config(device, device);
      config.seed = old.manifest().seed;
      config.sub_group_size = 300;  // not cut as it was
      ModelSpec model;
      add_units(model, *made_of);
      ZeroEngine engine(config, model, *ranks_, at::kCPU);
      load_checkpoint(engine.quiet_states(), old);
      save_checkpoint(engine.quiet_states(), {.step = ++step}, saved_.path(), *files_);
      auto again = opened(saved_ / checkpoint_name(step));
      expect_same_planes(again, old);
    }
  }

  static void expect_same_planes(Checkpoint& again, Checkpoint& old) {
    const auto& parameters = old.manifest().parameters;
    ASSERT_EQ(again.manifest().parameters, parameters);
    for (std::uint32_t parameter = 0; parameter < parameters.size(); ++parameter) {
      for (std::uint32_t plane = 0; plane < old.planes().all.size(); ++plane) {
        EXPECT_EQ(plane_of(again, parameter, plane) == plane_of(old, parameter, plane), true)
            << old.planes().all[plane].name << " of " << parameters[parameter].name;
      }
    }
  }
};

TEST_F(OlderVersionsTest, EveryByteOfVersionOneIsLoadedAndSavedAgain) {
  const std::filesystem::path made = SPILLWAY_TEST_DATA "/version-1/step-00000002";
  ASSERT_NE(bytes_of(made / kManifestName).find("\"format_version\": 1,"), std::string::npos);
  ASSERT_EQ(opened(made).shards().size(), 2u);
  expect_loaded_and_saved_again(made);
}

TEST_F(OlderVersionsTest, EveryByteOfVersionTwoIsLoadedAndSavedAgain) {
  for (const char* kind : {"plain", "dropout"}) {
    SCOPED_TRACE(kind);
    const auto made =
        std::filesystem::path(SPILLWAY_TEST_DATA "/version-2") / kind / "step-00000002";
    ASSERT_NE(bytes_of(made / kManifestName).find("\"format_version\": 2,"), std::string::npos);
    expect_loaded_and_saved_again(made);
    for (const auto& entry : std::filesystem::directory_iterator(saved_.path())) {
      std::filesystem::remove_all(entry.path());
    }
  }
}

}  // namespace
}  // namespace spillway::trainer::testing
