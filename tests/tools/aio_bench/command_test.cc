// aio_bench from the outside: what it prints, what it leaves behind, how it fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statfs.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "program.h"
#include "support/blkio_throttle.h"
#include "support/loop_filesystem.h"
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

TEST_F(AioBench, ExhaustiveMeasuresEveryCellAndRecommendsOne) {
  const auto json_file = scratch_ / "result.json";
  auto program =
      start({data_, "--exhaustive", "--block-sizes", "64K,1M", "--queue-depths", "4", "--threads",
             "1,2", "--repetitions", "1", "--file-size", "64M", "--json", json_file});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  EXPECT_THAT(program->output(), HasSubstr("Recommended: blocks of "));
  EXPECT_THAT(program->output(), HasSubstr("\"aio\": {"));
  EXPECT_THAT(left_behind(), IsEmpty());

  const auto target = nlohmann::json::parse(Program::text_of(json_file))["targets"][0];
  EXPECT_EQ(target["file_bytes"], 64 << 20);
  ASSERT_THAT(target["cells"], SizeIs(3 * 2 * 2));
  bool recommended_was_measured = false;
  for (const auto& cell : target["cells"]) {
    ASSERT_THAT(cell["repetitions"], SizeIs(1));
    const auto& one = cell["repetitions"][0];
    EXPECT_GT(one["gb_per_second"], 0);
    EXPECT_GT(one["p50_us"], 0);
    EXPECT_GE(one["p99_us"], one["p50_us"]);
    const double read = one["read_bytes"].get<double>();
    const double written = one["written_bytes"].get<double>();
    EXPECT_EQ(read > 0, cell["workload"] != "write");
    EXPECT_EQ(written > 0, cell["workload"] != "read");
    // As many bytes each way, but for what was on its way at the first and the last look.
    if (cell["workload"] == "mix") {
      const double in_flight = cell["block_size"].get<double>() *
                               cell["queue_depth"].get<double>() * cell["threads"].get<double>();
      EXPECT_NEAR(read, written, 6 * in_flight);
    }
    recommended_was_measured |= cell["block_size"] == target["aio"]["block_size"] &&
                                cell["queue_depth"] == target["aio"]["queue_depth"] &&
                                cell["threads"] == target["aio"]["intra_op_parallelism"];
  }
  EXPECT_TRUE(recommended_was_measured);
}

TEST_F(AioBench, MeasuresOneWorkloadWithTheBackendAskedFor) {
  const auto json_file = scratch_ / "result.json";
  auto program = start({data_, "--workloads", "write", "--backend", "threads", "--block-sizes",
                        "1M", "--queue-depths", "2", "--repetitions", "1", "--threads", "1",
                        "--file-size", "16M", "--time", "2", "--json", json_file});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  const auto target = nlohmann::json::parse(Program::text_of(json_file))["targets"][0];
  ASSERT_THAT(target["cells"], SizeIs(1));
  EXPECT_EQ(target["cells"][0]["workload"], "write");
  EXPECT_EQ(target["engine"], "threads");
  // One pwrite a block, at least.
  const auto& one = target["cells"][0]["repetitions"][0];
  EXPECT_GE(one["system_calls"].get<double>(), one["written_bytes"].get<double>() / (1 << 20));
}

TEST_F(AioBench, QuickEndsInItsTimeOnASmallFile) {
  const auto begin = std::chrono::steady_clock::now();
  auto program = start({data_, "--quick", "--time", "6", "--file-size", "256M"});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(seconds.count(), 6 + 1.5);  // the buffers are made, and the machine has other work
  EXPECT_THAT(program->output(), HasSubstr("Recommended: blocks of "));
}

// Then passes are cut by the clock, the file by what could be written of it, and large settings are
// left out.
TEST_F(AioBench, KeepsItsTimeOnASlowDrive) {
  constexpr double kBytesPerSecond = 20e6, kSeconds = 6;
  const BlkioThrottle slow(data_, static_cast<std::uint64_t>(kBytesPerSecond));
  if (!slow.why_not().empty()) GTEST_SKIP() << slow.why_not();
  const auto begin = std::chrono::steady_clock::now();
  const auto json_file = scratch_ / "result.json";
  auto program = start({data_, "--quick", "--time", "6", "--json", json_file});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(seconds.count(), 1.5 * kSeconds);
  EXPECT_LT(nlohmann::json::parse(Program::text_of(json_file))["targets"][0]["file_bytes"],
            256 << 20);

  // Asked for by name, a setting is measured though its queues take longer than a pass to fill.
  program = start({data_, "--quick", "--time", "4", "--block-sizes", "1M,2M", "--queue-depths", "4",
                   "--file-size", "32M", "--json", json_file});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  const auto target = nlohmann::json::parse(Program::text_of(json_file))["targets"][0];
  for (const auto& cell : target["cells"]) {
    for (const auto& one : cell["repetitions"]) {
      // Both directions have the limit to themselves, and a bucket that may be full at the start.
      EXPECT_LT(one["gb_per_second"], 5 * kBytesPerSecond / 1e9) << cell;
    }
  }
}

TEST_F(AioBench, DeepSpeedsNamesOfTheThreadKnobAreUnderstood) {
  for (const std::string name : {"thread_count", "num_threads", "intra_op_parallelism"}) {
    auto program =
        start({data_, "--" + name, "2", "--block-sizes", "64K", "--queue-depths", "2",
               "--workloads", "read", "--repetitions", "1", "--file-size", "16M", "--time", "2"});
    ASSERT_EQ(program->wait(), 0) << program->errors();
    EXPECT_THAT(program->output(), HasSubstr("\"intra_op_parallelism\": 2"));
    const bool warned =
        program->errors().find("its canonical name is intra_op_parallelism") != std::string::npos;
    EXPECT_EQ(warned, name != "intra_op_parallelism") << program->errors();
  }
}

TEST_F(AioBench, SeveralPathsAreMeasuredAloneAndStriped) {
  std::filesystem::create_directory(data_ / "a");
  std::filesystem::create_directory(data_ / "b");
  const auto json_file = scratch_ / "result.json";
  auto program = start({"--path", data_ / "a", "--path", data_ / "b", "--block-sizes", "1M",
                        "--queue-depths", "4", "--threads", "1", "--repetitions", "1",
                        "--file-size", "64M", "--time", "2", "--verify", "--json", json_file});
  ASSERT_EQ(program->wait(), 0) << program->errors();
  EXPECT_THAT(program->errors(), HasSubstr("on the same drive"));
  const auto targets = nlohmann::json::parse(Program::text_of(json_file))["targets"];
  ASSERT_THAT(targets, SizeIs(3));
  EXPECT_THAT(targets[0]["drives"], SizeIs(1));
  EXPECT_THAT(targets[2]["drives"], SizeIs(2));
  EXPECT_THAT(program->output(), HasSubstr("striped over"));
  EXPECT_THAT(left_behind(), testing::UnorderedElementsAre("a", "b"));
  EXPECT_TRUE(std::filesystem::is_empty(data_ / "a"));
}

TEST_F(AioBench, HelpShowsExamples) {
  auto program = start({"--help"});
  EXPECT_EQ(program->wait(), 0);
  EXPECT_THAT(program->output(), HasSubstr("Examples:\n  aio_bench /"));
}

TEST_F(AioBench, MistakesOnTheCommandLineAreOneLine) {
  expect_one_line({}, 2, "directory is required");
  expect_one_line({data_, "--workloads", "sideways"}, 2, "sideways");
  for (const char* size : {"1000", "12K", "2K", "128M"}) {
    expect_one_line({data_, "--block-sizes", size}, 2, "is no power of two from 4K to 64M");
  }
  expect_one_line({data_, "--block-sizes", "128Q"}, 2, "unit not recognized");
  expect_one_line({data_, "--queue-depths", "0"}, 2, "--queue-depths");
  expect_one_line({data_, "--file-size", "16M", "--queue-depths", "32", "--block-sizes", "1M"}, 2,
                  "blocks of 1M, depth 32, 2 threads hold 64M in flight, so the file must have at "
                  "least 256M");
  expect_one_line({data_, "--file-size", "0"}, 2, "--file-size: 0 is no multiple of 4K");
}

TEST_F(AioBench, AllMistakesAreToldAtOnce) {
  // The largest setting decides, so that the second try is right.
  const std::vector<std::string> wrong = {data_,  "--file-size",   "1001",   "--queue-depths",
                                          "4,32", "--block-sizes", "1000,1M"};
  expect_one_line(wrong, 2, "--block-sizes: 1000 is no power of two");
  expect_one_line(wrong, 2, "--file-size: 1001 is no multiple of 4K");
  expect_one_line(wrong, 2,
                  "blocks of 1M, depth 32, 2 threads hold 64M in flight, so the file must "
                  "have at least 256M");
}

TEST_F(AioBench, WhatTheDirectoryCannotDoIsOneLine) {
  expect_one_line({data_ / "missing"}, 1, "No such file or directory");
  expect_one_line({"/proc/self"}, 1, "directory writable: no");
  expect_one_line({data_, "--file-size", "100000T"}, 1, "the test file needs 97.7 PiB");
  std::ofstream(scratch_ / "a_file") << "x";
  expect_one_line({scratch_ / "a_file"}, 1, "not a directory");
  for (const char* option : {"--json", "--svg", "--write-config"}) {
    expect_one_line({data_, "--quick", option, data_ / "missing/x"}, 1, "missing/x");
    expect_one_line({data_, "--quick", option, data_}, 1, "it is no regular file");
  }
  std::ofstream(scratch_ / "broken.json") << "{\"train_batch_size\": }";
  expect_one_line({data_, "--quick", "--write-config", scratch_ / "broken.json"}, 1, "parse error");
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
    return !found.empty();
  });
  return found;
}

TEST_F(AioBench, CtrlCLeavesNoFileBehind) {
  for (const int number : {SIGINT, SIGTERM, SIGKILL}) {
    auto program = start({data_, "--time", "600", "--file-size", "256M"});
    ASSERT_FALSE(descriptor_of_test_file(*program).empty()) << program->errors();
    EXPECT_THAT(left_behind(), IsEmpty());
    program->signal(number);
    EXPECT_EQ(program->wait(), number == SIGKILL ? -number : 128 + number);
    EXPECT_THAT(left_behind(), IsEmpty());
    if (number == SIGKILL) continue;
    EXPECT_THAT(program->errors(), HasSubstr("interrupted; the test file is gone\n"));
  }
}

// A running program may write only the first MiB of its file from now on, as if the disk refused.
TEST_F(AioBench, AWriteThatFailsEndsTheRun) {
  auto program = start({data_, "--workloads", "write", "--block-sizes", "1M", "--queue-depths", "4",
                        "--time", "600", "--file-size", "256M"});
  ASSERT_FALSE(descriptor_of_test_file(*program).empty()) << program->errors();
  const rlimit first_mib{1 << 20, 1 << 20};
  ASSERT_EQ(prlimit(program->pid(), RLIMIT_FSIZE, &first_mib, nullptr), 0);
  EXPECT_EQ(program->wait(), 1);
  EXPECT_THAT(program->errors(), HasSubstr("File too large"));
  EXPECT_THAT(left_behind(), IsEmpty());
}

// A filesystem with too little room, and one that may not be written.
TEST_F(AioBench, AFullOrReadOnlyDiskIsOneLine) {
  const LoopFilesystem disk(64 << 20);
  if (!disk.why_not().empty()) GTEST_SKIP() << disk.why_not();
  expect_one_line({disk.mount_point(), "--quick"}, 1, "which is too little for a test file");
  expect_one_line({disk.mount_point(), "--file-size", "1G"}, 1, "the test file needs 1.0 GiB");
  const std::string mount_point = disk.mount_point();
  ASSERT_EQ(mount(nullptr, mount_point.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  expect_one_line({mount_point, "--quick"}, 1, "Read-only file system");
}

// Writes over 8 bytes of the test file, once it is filled, until the program notices, at most half
// a minute.
void spoil_until_noticed(const Program& program, off_t offset) {
  const auto descriptor = descriptor_of_test_file(program);
  ASSERT_FALSE(descriptor.empty()) << program.errors();
  const auto says = [&](const char* text) {
    return program.errors().find(text) != std::string::npos;
  };
  ASSERT_TRUE(wait_for([&] { return says("measuring"); }));
  const int file = open(descriptor.c_str(), O_WRONLY);
  ASSERT_GE(file, 0);
  const bool noticed = wait_for([&] {
    EXPECT_EQ(pwrite(file, "spoiled!", 8, offset), 8);
    return says("does not hold");
  });
  close(file);
  EXPECT_TRUE(noticed);
}

TEST_F(AioBench, ASpoiledStampEndsTheSearch) {
  auto program = start({data_, "--workloads", "read", "--block-sizes", "1M", "--queue-depths", "4",
                        "--time", "600", "--file-size", "256M"});
  spoil_until_noticed(*program, 5 << 20);
  EXPECT_EQ(program->wait(), 1);
  EXPECT_THAT(program->errors(),
              HasSubstr("the page at byte 5242880 does not hold what was written there"));
  EXPECT_THAT(left_behind(), IsEmpty());
}

TEST_F(AioBench, VerifyFindsASpoiledByteAnywhere) {
  auto program = start({data_, "--workloads", "read", "--block-sizes", "1M", "--queue-depths", "4",
                        "--time", "600", "--file-size", "64M", "--verify"});
  spoil_until_noticed(*program, (7 << 20) + 1000);
  EXPECT_EQ(program->wait(), 1);
  EXPECT_THAT(program->errors(),
              HasSubstr("the page at byte 7340032 does not hold what was written there"));
}

}  // namespace
}  // namespace spillway
