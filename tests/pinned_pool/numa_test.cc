#include "spillway/pinned_pool/numa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "fake_root.h"
#include "spillway/pinned_pool/slab.h"

namespace spillway::pinned_pool {
namespace {

TEST(Numa, TouchedMemoryLiesOnANode) {
  auto slab = Slab::create({.size_bytes = 1 << 20, .huge_pages = Policy::kOff, .numa_node = 0});
  ASSERT_TRUE(slab) << slab.error().message();
  slab->data()[0] = std::byte{1};
  const int node = node_of(slab->data());
  if (node < 0) GTEST_SKIP() << "the kernel does not say on which node a page lies";
  EXPECT_EQ(node, 0);
}

TEST(Numa, ANodeThatDoesNotExistIsRefused) {
  EXPECT_GE(numa_node_count(), 1);
  for (const int node : {4096, -1}) {
    std::byte memory[1] = {};
    const auto bound = bind_to_node(memory, 1, node);
    ASSERT_FALSE(bound);
    EXPECT_EQ(bound.error().kind, ErrorKind::kInvalid);
  }
  EXPECT_FALSE(Slab::create({.size_bytes = 4096, .numa_node = 4096}));
}

TEST(Numa, ReadsWhatANodeHasFreeAndWhatTheKernelCanFree) {
  const FakeRoot root;
  EXPECT_FALSE(node_available_bytes(1, root.path()));
  root.write("devices/system/node/node1/meminfo",
             "Node 1 MemTotal:       24684096 kB\nNode 1 MemFree:  1000 kB\n"
             "Node 1 Active(anon):  7 kB\nNode 1 Active(file):  200 kB\n"
             "Node 1 Inactive(file):  30 kB\nNode 1 SReclaimable:  4 kB\n");
  EXPECT_EQ(node_available_bytes(1, root.path()), 1234u * 1024);
}

// Strictly bound memory that the node lacks would end the process.
TEST(Numa, MoreThanTheNodeHasIsNotBound) {
  const auto available = node_available_bytes(0);
  if (!available) GTEST_SKIP() << "the kernel does not say what node 0 has";
  const auto line = testing::AllOf(testing::StartsWith("NUMA: "),
                                   testing::HasSubstr("are not bound to node 0, which has"));
  SlabOptions options{.size_bytes = *available / 8 * 5,
                      .huge_pages = Policy::kOff,
                      .lock = Policy::kOff,
                      .cuda = Policy::kOff,
                      .numa_node = 0};
  const auto first = Slab::create(options);
  if (!first) GTEST_SKIP() << first.error().message();
  EXPECT_THAT(first->report(), testing::Not(testing::Contains(line)));
  const auto second = Slab::create(options);
  if (!second) GTEST_SKIP() << second.error().message();
  EXPECT_THAT(second->report(), testing::Contains(line));
}

// hwloc shows a machine of two nodes; its binding calls do nothing there.
TEST(NumaDeathTest, CountsTheNodesOfALargerMachine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        setenv("HWLOC_SYNTHETIC", "numa:2 core:2 pu:1", 1);
        std::fprintf(stderr, "nodes: %d\n", numa_node_count());
        std::byte memory[1] = {};
        std::fprintf(stderr, "0 %d, 1 %d, 2 %d\n", bind_to_node(memory, 1, 0).has_value(),
                     bind_to_node(memory, 1, 1).has_value(),
                     bind_to_node(memory, 1, 2).has_value());
        std::_Exit(0);
      },
      ::testing::ExitedWithCode(0), "nodes: 2\n0 1, 1 1, 2 0");
}

}  // namespace
}  // namespace spillway::pinned_pool
