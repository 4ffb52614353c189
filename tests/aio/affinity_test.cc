#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <spillway/aio/engine.h>

#include <future>

#include "support/scratch.h"

namespace spillway::aio {
namespace {

using testing::HasSubstr;

std::vector<int> cpus_of_this_thread() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

class Affinity : public testing::TestWithParam<BackendKind> {};

TEST_P(Affinity, TheThreadsRunWhereTheyAreTold) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {.size_bytes = 4096});
  ASSERT_TRUE(file);
  const std::vector<int> mine = cpus_of_this_thread();
  for (const std::vector<int>& cpus : {std::vector<int>{}, {mine.back()}, mine}) {
    auto engine = Engine::create({.backend = GetParam(), .thread_count = 2, .cpus = cpus});
    if (!engine && engine.error().kind != ErrorKind::kInvalid) {
      GTEST_SKIP() << engine.error().message();
    }
    ASSERT_TRUE(engine) << engine.error().message();
    std::promise<std::vector<int>> seen;
    (*engine)->read({.file = &*file, .size_bytes = 4096}, Buffer::allocate(4096),
                    [&](Completion) { seen.set_value(cpus_of_this_thread()); });
    EXPECT_EQ(seen.get_future().get(), cpus.empty() ? mine : cpus);
  }
  EXPECT_EQ(cpus_of_this_thread(), mine) << "the caller's own thread is left alone";
}

TEST_P(Affinity, CpusThatAreNotThereAreRefused) {
  auto engine = Engine::create({.backend = GetParam(), .cpus = {CPU_SETSIZE - 1}});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(engine.error().message(), HasSubstr("CPUs 1023, of which this process may use none"));
  for (const int cpu : {-1, CPU_SETSIZE}) {
    engine = Engine::create({.backend = GetParam(), .cpus = {0, cpu}});
    ASSERT_FALSE(engine);
    EXPECT_THAT(engine.error().message(), HasSubstr("cpus has " + std::to_string(cpu)));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Affinity,
                         testing::Values(BackendKind::kIoUring, BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == BackendKind::kIoUring ? "io_uring" : "threads";
                         });

}  // namespace
}  // namespace spillway::aio
