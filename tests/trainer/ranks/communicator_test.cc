// What a program of several ranks gets before the first rank is met.
#include <gtest/gtest.h>
#include <signal.h>
#include <spillway/trainer/communicator.h>
#include <spillway/trainer/failure.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace spillway::trainer {
namespace {

void begin_without_an_address() {
  ::setenv("RANK", "0", 1);
  ::setenv("WORLD_SIZE", "2", 1);
  ::unsetenv("MASTER_ADDR");
  EXPECT_THROW(Communicator::from_environment(at::kCPU), Failure);
}

// Else a write to a rank that is gone would end the process without a word.
TEST(CommunicatorDeathTest, SeveralRanksIgnoreBrokenPipes) {
  EXPECT_EXIT(
      {
        begin_without_an_address();
        ::raise(SIGPIPE);
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(CommunicatorDeathTest, AHandlerOfTheProgramStays) {
  EXPECT_EXIT(
      {
        ::signal(SIGPIPE, [](int) { ::_exit(7); });
        begin_without_an_address();
        ::raise(SIGPIPE);
        ::_exit(0);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(CommunicatorDeathTest, OneRankLeavesThemAsTheyAre) {
  EXPECT_EXIT(
      {
        ::unsetenv("RANK");
        ::unsetenv("WORLD_SIZE");
        Communicator::from_environment(at::kCPU);
        ::raise(SIGPIPE);
        ::_exit(0);
      },
      ::testing::KilledBySignal(SIGPIPE), "");
}

// A shell inside an allocation has SLURM's variables too, and its user has never asked for ranks.
TEST(CommunicatorDeathTest, WithoutAnAddressTheVariablesThatMakeSeveralRanksAreNamed) {
  EXPECT_EXIT(
      {
        ::unsetenv("RANK");
        ::unsetenv("MASTER_ADDR");
        ::setenv("SLURM_PROCID", "0", 1);
        ::setenv("SLURM_NTASKS", "4", 1);
        try {
          Communicator::from_environment(at::kCPU);
        } catch (const Failure& failure) {
          std::fputs(failure.what(), stderr);
          ::_exit(0);
        }
        ::_exit(1);
      },
      ::testing::ExitedWithCode(0), "SLURM_PROCID=0 and SLURM_NTASKS=4.*MASTER_ADDR");
}

}  // namespace
}  // namespace spillway::trainer
