// What a run says of the drive that its "aio" block was tuned on.
#include "tools/spillway/train/tuned_drive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tools/common/device_label.h"

namespace spillway::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

aio::PathProbe probe_of(const std::string& device) {
  aio::PathProbe probe;
  probe.path = "/mnt/fast";
  probe.block_device = device;
  return probe;
}

TEST(TunedDrive, AnotherDriveIsToldWithWhatToDo) {
  trainer::TunedDrive tuned;
  EXPECT_EQ(tuned_elsewhere(tuned, probe_of("/dev/nvme0n1")), "");
  tuned.device = "/dev/nvme0n1 + /dev/nvme1n1";
  EXPECT_EQ(tuned_elsewhere(tuned, probe_of("/dev/nvme1n1")), "");
  EXPECT_THAT(tuned_elsewhere(tuned, probe_of("/dev/nvme2n1")),
              AllOf(HasSubstr("tuned on /dev/nvme0n1 + /dev/nvme1n1, but"),
                    HasSubstr("/mnt/fast is on /dev/nvme2n1"),
                    HasSubstr("'aio_bench /mnt/fast --write-config CONFIG'")));
}

TEST(TunedDrive, OneNoteForADriveThatHoldsBoth) {
  const std::string here = std::filesystem::current_path();
  trainer::Config config;
  config.tuned.device = "/dev/another";
  EXPECT_THAT(tuning_notes(config), IsEmpty());  // nothing is on NVMe
  for (trainer::OffloadConfig* offload : {&config.offload_param, &config.offload_optimizer}) {
    offload->device = trainer::OffloadDevice::kNvme;
    offload->nvme_path = here;
  }
  EXPECT_THAT(tuning_notes(config), SizeIs(1));
  config.tuned.device = device_label(aio::probe_path(here));
  EXPECT_THAT(tuning_notes(config), IsEmpty());
}

TEST(TunedDrive, TheShareIsOfTheTimeThatTheBytesTakeAtBest) {
  trainer::TunedDrive tuned;
  EXPECT_EQ(share_of_tuned(tuned, 1'000'000'000, 0, 1), "");
  tuned.read_gb_per_second = 4;
  EXPECT_EQ(share_of_tuned(tuned, 2'000'000'000, 0, 1), " (50% of tuned)");
  EXPECT_EQ(share_of_tuned(tuned, 0, 0, 1), "");
  tuned.spread = 0.2;
  EXPECT_EQ(share_of_tuned(tuned, 2'000'000'000, 0, 1), " (50% of tuned, +-10%)");
}

}  // namespace
}  // namespace spillway::tools
