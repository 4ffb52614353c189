#include "spillway/pinned_pool/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <spillway/aio/probe.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>

#include "support/child.h"
#include "support/fake_sysfs.h"

namespace spillway::pinned_pool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Topology synthetic(const std::string& description) {
  auto topology = Topology::from_synthetic(description);
  EXPECT_TRUE(topology) << topology.error().message();
  return std::move(*topology);
}

TEST(Topology, TwoNodesHaveTheirOwnCpus) {
  const Topology topology = synthetic("numa:2 core:2 pu:1");
  EXPECT_THAT(topology.nodes(), ElementsAre(0, 1));
  EXPECT_THAT(topology.cpus_of_node(0), ElementsAre(0, 1));
  EXPECT_THAT(topology.cpus_of_node(1), ElementsAre(2, 3));
  EXPECT_THAT(topology.cpus_of_node(2), IsEmpty());
  EXPECT_THAT(topology.cpus_of_node(-1), IsEmpty());
}

TEST(Topology, RefusesWhatHwlocDoesNotUnderstand) {
  const auto refused = Topology::from_synthetic("two nodes please");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.error().message(), HasSubstr("'two nodes please'"));
}

TEST(Topology, ThisMachineHasNodesAndCpus) {
  const auto topology = Topology::load();
  ASSERT_TRUE(topology) << topology.error().message();
  ASSERT_FALSE(topology->nodes().empty());
  cpu_set_t mine;
  ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
  int cpus = 0;
  for (const int node : topology->nodes()) {
    for (const int cpu : topology->cpus_of_node(node)) {
      EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(cpu), &mine));
      ++cpus;
    }
  }
  EXPECT_EQ(cpus, CPU_COUNT(&mine));
}

TEST(Topology, ACpuThatTasksetForbidsIsLeftOut) {
  cpu_set_t mine;
  ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
  if (CPU_COUNT(&mine) < 2) GTEST_SKIP() << "this process may use one CPU only";
  const std::string left = in_child([&]() -> std::string {
    std::size_t last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &mine)) --last;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    // As taskset binds a program: all its threads (a sanitizer has one of its own).
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      const pid_t thread = std::stoi(task.path().filename());
      if (sched_setaffinity(thread, sizeof one, &one) != 0) return "sched_setaffinity failed";
    }
    const auto topology = Topology::load();
    std::vector<int> all;
    for (const int node : topology->nodes()) {
      for (const int cpu : topology->cpus_of_node(node)) all.push_back(cpu);
    }
    return all == std::vector<int>{static_cast<int>(last)} ? "" : "others are left";
  });
  EXPECT_EQ(left, "");
}

// Drives as they hang in the tree of real machines.
class Drives : public testing::Test {
 protected:
  void SetUp() override {
    sysfs_.add_device("pci0000:00/0000:00:04.0/nvme/nvme0", "nvme0n1");
    sysfs_.set_node("pci0000:00/0000:00:04.0", 0);
    for (const std::string number : {"1", "2"}) {
      sysfs_.add_device("pci0000:80/0000:80:0" + number + ".0/nvme/nvme" + number,
                        "nvme" + number + "n1");
      sysfs_.set_node("pci0000:80/0000:80:0" + number + ".0", 1);
    }
    sysfs_.add_device("pci0000:80/0000:80:01.0/nvme/nvme1/nvme1n1", "nvme1n1p2");
    sysfs_.add_device("pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block", "sda");
    sysfs_.set_node("pci0000:00/0000:00:17.0", -1);  // what a machine without NUMA says
    sysfs_.add_device("virtual/block", "md0");
    sysfs_.add_part("md0", "nvme1n1");
    sysfs_.add_part("md0", "nvme2n1");
    sysfs_.add_device("virtual/block", "dm-0");
    sysfs_.add_part("dm-0", "md0");
    sysfs_.add_device("virtual/block", "md1");
    sysfs_.add_part("md1", "nvme0n1");
    sysfs_.add_part("md1", "nvme1n1");
    sysfs_.add_device("virtual/nvme-subsystem/nvme-subsys3", "nvme3n1");
    sysfs_.set_node("virtual/nvme-subsystem/nvme-subsys3/nvme3", 1);
  }
  IoPlacement place(std::vector<std::string> devices, const Topology& topology) const {
    return place_io(topology, devices, sysfs_.path());
  }
  FakeSysfs sysfs_;
};

TEST_F(Drives, AreFoundOnTheirNode) {
  const auto node = [&](const char* name) { return aio::numa_node_of_device(name, sysfs_.path()); };
  EXPECT_EQ(node("nvme0n1"), 0);
  EXPECT_EQ(node("nvme2n1"), 1);
  EXPECT_EQ(node("nvme1n1p2"), 1);  // a partition
  EXPECT_EQ(node("md0"), 1);        // a RAID of one node
  EXPECT_EQ(node("dm-0"), 1);       // and LVM on it
  EXPECT_EQ(node("md1"), -1);       // a RAID across nodes
  EXPECT_EQ(node("nvme3n1"), 1);    // multipath
  EXPECT_EQ(node("sda"), -1);
  EXPECT_EQ(node("missing"), -1);
  EXPECT_EQ(node(""), -1);
  EXPECT_EQ(node("../block"), -1);
}

TEST_F(Drives, DrawTheirIoToTheirNode) {
  const Topology topology = synthetic("numa:2 core:2 pu:1");
  IoPlacement placement = place({"nvme1n1"}, topology);
  EXPECT_EQ(placement.numa_node, 1);
  EXPECT_THAT(placement.cpus, ElementsAre(2, 3));
  EXPECT_EQ(placement.reason, "the drive is on node 1");
  placement = place({"nvme0n1", "nvme1n1", "nvme2n1"}, topology);
  EXPECT_EQ(placement.numa_node, 1);
  EXPECT_EQ(placement.reason, "2 of 3 drives are on node 1");
  placement = place({"nvme1n1", "nvme0n1"}, topology);
  EXPECT_EQ(placement.numa_node, 0) << "the lowest of several";
}

TEST_F(Drives, AreLeftToTheKernelWhereNothingIsKnown) {
  const Topology two = synthetic("numa:2 core:2 pu:1");
  for (const auto& [devices, topology, reason] :
       {std::tuple(std::vector<std::string>{"sda", "md1"}, &two, "does not say"),
        std::tuple(std::vector<std::string>{}, &two, "does not say")}) {
    const IoPlacement placement = place(devices, *topology);
    EXPECT_EQ(placement.numa_node, -1);
    EXPECT_THAT(placement.cpus, IsEmpty());
    EXPECT_THAT(placement.reason, HasSubstr(reason));
  }
  EXPECT_THAT(place({"nvme0n1"}, synthetic("numa:1 core:2 pu:1")).reason,
              HasSubstr("1 node: nothing to place"));
  // A node that this process does not see, and one of memory alone.
  EXPECT_EQ(two.node_of_device("nvme0n1", sysfs_.path()), 0);
  sysfs_.set_node("pci0000:00/0000:00:04.0", 7);
  EXPECT_EQ(two.node_of_device("nvme0n1", sysfs_.path()), -1);
}

TEST(PlaceIo, SaysWhyForThisMachine) {
  const std::vector<std::filesystem::path> here{"."};
  const IoPlacement placement = place_io(here);
  EXPECT_NE(placement.reason, "");
  EXPECT_EQ(placement.numa_node < 0, placement.cpus.empty());
}

}  // namespace
}  // namespace spillway::pinned_pool
