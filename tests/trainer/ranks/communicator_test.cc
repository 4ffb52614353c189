// What a program of several ranks gets before the first rank is met.
#include <gtest/gtest.h>
#include <signal.h>
#include <spillway/trainer/communicator.h>
#include <spillway/trainer/failure.h>
#include <unistd.h>

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

}  // namespace
}  // namespace spillway::trainer
