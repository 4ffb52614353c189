// aio_bench from the outside: what it prints, what it leaves behind, how it fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/statfs.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "program.h"
#include "support/scratch.h"

namespace spillway {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr long kTmpfsMagic = 0x01021994;

class AioBench : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(data_);
    struct statfs status {};
    ASSERT_EQ(statfs(data_.c_str(), &status), 0);
    if (status.f_type == kTmpfsMagic) GTEST_SKIP() << "the scratch directory is on tmpfs, no disk";
  }
  std::unique_ptr<Program> start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), AIO_BENCH);
    return std::make_unique<Program>(std::move(arguments), scratch_.path());
  }
  std::vector<std::string> left_behind() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(data_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }
  // A mistake or a failure: the exit code, one line that says what it is, and nothing left.
  void expect_one_line(const std::vector<std::string>& arguments, int exit_code,
                       const std::string& text) {
    auto program = start(arguments);
    EXPECT_EQ(program->wait(), exit_code);
    const std::string errors = program->errors();
    EXPECT_THAT(errors, HasSubstr(text));
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
    EXPECT_THAT(left_behind(), IsEmpty());
  }

  Scratch scratch_;
  const std::filesystem::path data_ = scratch_ / "data";
};

TEST_F(AioBench, MeasuresEveryCellAndRecommendsOne) {
  const auto json_file = scratch_ / "result.json";
  auto program = start({data_, "--block-sizes", "64K,1M", "--queue-depths", "1,4", "--threads",
                        "1,2", "--repetitions", "2", "--file-size", "32M", "--json", json_file});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  EXPECT_THAT(program->output(), HasSubstr("Recommended: blocks of "));
  EXPECT_THAT(program->output(), HasSubstr("\"aio\": {"));
  EXPECT_THAT(left_behind(), IsEmpty());

  const auto result = nlohmann::json::parse(Program::text_of(json_file));
  EXPECT_EQ(result["file_bytes"], 32 << 20);
  ASSERT_THAT(result["cells"], SizeIs(2 * 2 * 2 * 2));
  bool recommended_was_measured = false;
  for (const auto& cell : result["cells"]) {
    ASSERT_THAT(cell["repetitions"], SizeIs(2));
    for (const auto& one : cell["repetitions"]) {
      EXPECT_GT(one["gb_per_second"], 0);
      const double bytes = one["gb_per_second"].get<double>() * one["seconds"].get<double>() * 1e9;
      EXPECT_NEAR(bytes, 32 << 20, 1);
    }
    recommended_was_measured |= cell["block_size"] == result["aio"]["block_size"] &&
                                cell["queue_depth"] == result["aio"]["queue_depth"] &&
                                cell["threads"] == result["aio"]["intra_op_parallelism"];
  }
  EXPECT_TRUE(recommended_was_measured);
}

TEST_F(AioBench, MeasuresOneDirectionWithTheBackendAskedFor) {
  const auto json_file = scratch_ / "result.json";
  auto program = start({data_, "--direction", "write", "--backend", "threads", "--block-sizes",
                        "1M", "--queue-depths", "2", "--repetitions", "1", "--file-size", "8M",
                        "--json", json_file});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  const auto result = nlohmann::json::parse(Program::text_of(json_file));
  ASSERT_THAT(result["cells"], SizeIs(1));
  EXPECT_EQ(result["cells"][0]["direction"], "write");
  EXPECT_EQ(result["target"]["engine"], "threads");
  // One pwrite a block, at least.
  EXPECT_GE(result["cells"][0]["repetitions"][0]["system_calls"], 8);
}

TEST_F(AioBench, HelpShowsExamples) {
  auto program = start({"--help"});
  EXPECT_EQ(program->wait(), 0);
  EXPECT_THAT(program->output(), HasSubstr("Examples:\n  aio_bench /"));
}

TEST_F(AioBench, MistakesOnTheCommandLineAreOneLine) {
  expect_one_line({}, 2, "directory is required");
  expect_one_line({data_, "--direction", "sideways"}, 2, "sideways");
  for (const char* size : {"1000", "12K", "2K", "128M"}) {
    expect_one_line({data_, "--block-sizes", size}, 2, "is no power of two from 4K to 64M");
  }
  expect_one_line({data_, "--block-sizes", "128Q"}, 2, "unit not recognized");
  expect_one_line({data_, "--queue-depths", "0"}, 2, "--queue-depths");
  expect_one_line({data_, "--file-size", "16M", "--queue-depths", "32", "--block-sizes", "1M"}, 2,
                  "blocks of 1M x depth 32 x 1 threads hold 32M in flight, so the file must have "
                  "at least 128M");
}

TEST_F(AioBench, WhatTheDirectoryCannotDoIsOneLine) {
  expect_one_line({data_ / "missing"}, 1, "No such file or directory");
  expect_one_line({"/proc/self"}, 1, "directory writable: no");
  expect_one_line({data_, "--file-size", "100000T"}, 1, "the test file needs 97.7 PiB");
  expect_one_line({data_, "--quick", "--json", data_ / "missing/x.json"}, 1, "missing/x.json");
}

TEST_F(AioBench, MemoryIsNoDisk) {
  struct statfs status {};
  if (statfs("/dev/shm", &status) != 0 || status.f_type != kTmpfsMagic) {
    GTEST_SKIP() << "there is no tmpfs at /dev/shm";
  }
  expect_one_line({"/dev/shm"}, 1, "tmpfs is memory, no disk");
}

// Starts a long sweep of reads and returns when it runs: /proc then shows its unnamed file.
std::filesystem::path descriptor_of_test_file(const Program& program) {
  const auto descriptors = "/proc/" + std::to_string(program.pid()) + "/fd";
  std::filesystem::path found;
  wait_for([&] {
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(descriptors, gone)) {
      const auto target = std::filesystem::read_symlink(entry.path(), gone);
      if (target.string().find(".aio_bench.") != std::string::npos) found = entry.path();
    }
    return !found.empty() || !program.errors().empty();
  });
  return found;
}

TEST_F(AioBench, CtrlCLeavesNoFileBehind) {
  for (const int number : {SIGINT, SIGTERM, SIGKILL}) {
    auto program = start({data_, "--repetitions", "1000", "--file-size", "512M"});
    ASSERT_FALSE(descriptor_of_test_file(*program).empty()) << program->errors();
    EXPECT_THAT(left_behind(), IsEmpty());
    program->signal(number);
    EXPECT_EQ(program->wait(), -number);
    EXPECT_THAT(left_behind(), IsEmpty());
  }
}

// A running program may write only the first MiB of its file from now on, as if the disk refused.
TEST_F(AioBench, AWriteThatFailsEndsTheRun) {
  ::signal(SIGXFSZ, SIG_IGN);  // handed on to the program: the write fails and nobody is killed
  auto program = start({data_, "--direction", "write", "--block-sizes", "1M", "--queue-depths", "4",
                        "--repetitions", "1000", "--file-size", "256M"});
  ASSERT_FALSE(descriptor_of_test_file(*program).empty()) << program->errors();
  const rlimit first_mib{1 << 20, 1 << 20};
  ASSERT_EQ(prlimit(program->pid(), RLIMIT_FSIZE, &first_mib, nullptr), 0);
  EXPECT_EQ(program->wait(), 1);
  EXPECT_THAT(program->errors(), HasSubstr("File too large"));
  EXPECT_THAT(left_behind(), IsEmpty());
}

// Writes over 8 bytes of the test file again and again (the pass that fills it may come after the
// first time) until the program says something, at most half a minute.
void spoil_until_noticed(const Program& program, off_t offset) {
  const auto descriptor = descriptor_of_test_file(program);
  ASSERT_FALSE(descriptor.empty()) << program.errors();
  const int file = open(descriptor.c_str(), O_WRONLY);
  ASSERT_GE(file, 0);
  const bool noticed = wait_for([&] {
    EXPECT_EQ(pwrite(file, "spoiled!", 8, offset), 8);
    return !program.errors().empty();
  });
  close(file);
  EXPECT_TRUE(noticed);
}

TEST_F(AioBench, ASpoiledStampEndsTheSweepAtOnce) {
  auto program = start({data_, "--direction", "read", "--block-sizes", "1M", "--queue-depths", "4",
                        "--repetitions", "1000", "--file-size", "256M"});
  spoil_until_noticed(*program, 5 << 20);
  EXPECT_EQ(program->wait(), 1);
  EXPECT_THAT(program->errors(),
              HasSubstr("the page at byte 5242880 does not hold what was written there"));
  EXPECT_THAT(left_behind(), IsEmpty());
}

TEST_F(AioBench, ASpoiledByteElsewhereIsFoundAtTheEnd) {
  auto program = start({data_, "--direction", "read", "--block-sizes", "1M", "--queue-depths", "4",
                        "--repetitions", "10", "--file-size", "64M"});
  spoil_until_noticed(*program, (7 << 20) + 1000);
  EXPECT_EQ(program->wait(), 1);
  EXPECT_THAT(program->errors(),
              HasSubstr("the page at byte 7340032 does not hold what was written there"));
}

}  // namespace
}  // namespace spillway
