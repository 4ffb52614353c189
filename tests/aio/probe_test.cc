#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <spillway/aio/probe.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "support/scratch.h"

namespace spillway::aio {
namespace {

const Capability* find(const std::vector<Capability>& capabilities, const std::string& name) {
  auto found = std::find_if(capabilities.begin(), capabilities.end(),
                            [&](const Capability& c) { return c.name == name; });
  return found == capabilities.end() ? nullptr : &*found;
}

TEST(Probe, TheKernelAnswersAsTheEngineDoes) {
  auto capabilities = probe_kernel();
  for (const char* name :
       {"io_uring", "SINGLE_ISSUER + DEFER_TASKRUN", "registered buffers", "registered files"}) {
    const Capability* capability = find(capabilities, name);
    ASSERT_NE(capability, nullptr) << name;
    EXPECT_NE(capability->reason, "") << name;
  }
  EXPECT_EQ(find(capabilities, "io_uring")->available,
            Engine::create({.backend = BackendKind::kIoUring}).has_value());
}

TEST(Probe, ADirectoryAnswersAsItsFilesDo) {
  Scratch scratch;
  PathProbe probe = probe_path(scratch.path());
  EXPECT_EQ(probe.path, scratch.path().string());
  EXPECT_NE(probe.filesystem, "");
  EXPECT_GT(probe.size_bytes, 0u);
  EXPECT_LE(probe.free_bytes, probe.size_bytes);
  EXPECT_TRUE(find(probe.capabilities, "directory writable")->available);
  auto file = File::create(scratch / "x", {});
  ASSERT_TRUE(file);
  EXPECT_EQ(find(probe.capabilities, "O_DIRECT")->available, file->direct());
  if (file->direct()) {
    EXPECT_EQ(probe.memory_alignment, file->memory_alignment());
    const auto page = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
    EXPECT_EQ(std::max(probe.offset_alignment, page), file->offset_alignment());
  }
  EXPECT_TRUE(file->remove());
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path())) << "a probe leaves nothing behind";
}

TEST(Probe, TmpfsIsNoRealDisk) {
  struct statfs filesystem {};
  constexpr long kTmpfs = 0x01021994;
  if (::statfs("/dev/shm", &filesystem) != 0 || filesystem.f_type != kTmpfs) {
    GTEST_SKIP() << "/dev/shm is no tmpfs here";
  }
  PathProbe probe = probe_path("/dev/shm");
  EXPECT_EQ(probe.filesystem, "tmpfs");
  EXPECT_EQ(probe.block_device, "");
  const Capability* disk = find(probe.capabilities, "real disk");
  ASSERT_NE(disk, nullptr);
  EXPECT_FALSE(disk->available);
  EXPECT_NE(disk->reason.find("tmpfs"), std::string::npos);
  EXPECT_NE(disk->fix, "");
}

TEST(Probe, AMissingDirectoryIsSaid) {
  Scratch scratch;
  PathProbe probe = probe_path(scratch / "none");
  const Capability* writable = find(probe.capabilities, "directory writable");
  ASSERT_NE(writable, nullptr);
  EXPECT_FALSE(writable->available);
  EXPECT_EQ(writable->reason, "No such file or directory");
  std::ofstream(scratch / "file") << "x";
  EXPECT_EQ(find(probe_path(scratch / "file").capabilities, "directory writable")->reason,
            "not a directory");
}

TEST(Probe, ADirectoryThatCannotBeWrittenIsSaid) {
  const Capability* writable = nullptr;
  PathProbe probe = probe_path("/proc");
  writable = find(probe.capabilities, "directory writable");
  ASSERT_NE(writable, nullptr);
  EXPECT_FALSE(writable->available);
  EXPECT_FALSE(find(probe.capabilities, "O_DIRECT")->available);
  EXPECT_EQ(probe.memory_alignment, 0u);
}

}  // namespace
}  // namespace spillway::aio
