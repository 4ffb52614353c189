// A checkpoint of format version 1 (data/README.md): what is loaded of it is saved again as it was.
#include "tests/trainer/checkpoint/states_fixture.h"

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

TEST_F(CheckpointStatesTest, EveryByteOfVersionOneIsLoadedAndSavedAgain) {
  const std::filesystem::path made = SPILLWAY_TEST_DATA "/version-1/step-00000002";
  ASSERT_NE(bytes_of(made / kManifestName).find("\"format_version\": 1,"), std::string::npos);
  auto old = opened(made);
  ASSERT_EQ(old.shards().size(), 2u);
  ASSERT_EQ(old.planes().all.size(), 4u) << "hi, lo and two moments";
  std::uint64_t step = 2;
  for (const OffloadDevice device : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
    Config config = this->config(device, device);
    config.seed = old.manifest().seed;
    config.sub_group_size = 300;  // not cut as it was
    ModelSpec model;
    add_gpt(model, *old.manifest().model);
    ZeroEngine engine(config, model, *ranks_, at::kCPU);
    load_checkpoint(engine.quiet_states(), old);
    save_checkpoint(engine.quiet_states(), {.step = ++step}, saved_.path(), *files_);
    auto again = opened(saved_ / checkpoint_name(step));
    ASSERT_EQ(again.manifest().parameters, old.manifest().parameters);
    for (std::uint32_t parameter = 0; parameter < old.manifest().parameters.size(); ++parameter) {
      for (std::uint32_t plane = 0; plane < old.planes().all.size(); ++plane) {
        EXPECT_EQ(plane_of(again, parameter, plane) == plane_of(old, parameter, plane), true)
            << old.planes().all[plane].name << " of " << old.manifest().parameters[parameter].name;
      }
    }
  }
}

}  // namespace
}  // namespace spillway::trainer::testing
