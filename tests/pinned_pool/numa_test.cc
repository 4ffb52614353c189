#include "spillway/pinned_pool/numa.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

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
