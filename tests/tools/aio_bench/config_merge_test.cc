// The "aio" block goes into a configuration, and nothing else of it changes.
#include "tools/aio_bench/config_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "support/child.h"
#include "support/scratch.h"
#include "support/seed.h"
#include "tools/aio_bench/atomic_file.h"

namespace spillway::aio_bench {
namespace {

using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

ordered_json block() { return {{"block_size", 1048576}, {"intra_op_parallelism", 2}}; }

std::string merged(const std::string& text) {
  const auto result = merge_aio(text, "c.json", block());
  return result ? result->text : "error: " + result.error().message();
}

TEST(MergeAio, EverythingOutsideTheBlockStaysByteForByte) {
  EXPECT_EQ(
      merged("{\n   \"b\" : [1,\t2],\n\n   \"aio\": {\"block_size\": 1},\n   \"a\": 1e-3 }\n\n"),
      "{\n   \"b\" : [1,\t2],\n\n   \"aio\": {\n      \"block_size\": 1048576,\n"
      "      \"intra_op_parallelism\": 2\n   },\n   \"a\": 1e-3 }\n\n");
}

TEST(MergeAio, ABlockThatIsNotThereComesLast) {
  EXPECT_EQ(merged("{\n\t\"a\": {\"aio\": 1}\n}"),
            "{\n\t\"a\": {\"aio\": 1},\n\t\"aio\": {\n\t\t\"block_size\": 1048576,\n"
            "\t\t\"intra_op_parallelism\": 2\n\t}\n}");
  EXPECT_EQ(
      merged("{}"),
      "{\n  \"aio\": {\n    \"block_size\": 1048576,\n    \"intra_op_parallelism\": 2\n  }\n}");
}

TEST(MergeAio, OneLineStaysOneLine) {
  EXPECT_EQ(merged("{\"a\": 1}"),
            "{\"a\": 1, \"aio\": {\"block_size\":1048576,\"intra_op_parallelism\":2}}");
}

TEST(MergeAio, LinesEndAsTheyDid) {
  EXPECT_EQ(merged("{\r\n  \"a\": 1\r\n}\r\n"),
            "{\r\n  \"a\": 1,\r\n  \"aio\": {\r\n    \"block_size\": 1048576,\r\n"
            "    \"intra_op_parallelism\": 2\r\n  }\r\n}\r\n");
}

TEST(MergeAio, QuotesAndBracesInStringsAreNoStructure) {
  const std::string odd = R"({"x\"aio": "}{,\"aio\":[", "\u0061io": {"queue_depth": 7}, "z": "]"})";
  EXPECT_EQ(merged(odd), R"({"x\"aio": "}{,\"aio\":[", "\u0061io": {"queue_depth":7,)"
                         R"("block_size":1048576,"intra_op_parallelism":2}, "z": "]"})");
  EXPECT_EQ(merged("\xEF\xBB\xBF{\"a\":1}").substr(0, 11), "\xEF\xBB\xBF{\"a\":1, ");
}

TEST(MergeAio, OlderSpellingsGiveWayAndOtherKeysStay) {
  const auto result = merge_aio(R"({"aio": {"thread_count": 4, "use_gds": false, "num_threads": 4,
                                "block_size": 1, "single_submit": "false"}})",
                                "c.json", block());
  ASSERT_TRUE(result);
  EXPECT_EQ(ordered_json::parse(result->text)["aio"].dump(),
            R"({"use_gds":false,"block_size":1048576,"single_submit":false,)"
            R"("intra_op_parallelism":2})");
  EXPECT_THAT(result->notes,
              ElementsAre("aio.thread_count is now aio.intra_op_parallelism, its canonical name",
                          "aio.num_threads is now aio.intra_op_parallelism, its canonical name",
                          "aio.single_submit: written without quotes now"));
}

TEST(MergeAio, ABlockInsideZeroOptimizationIsPointedOut) {
  const auto result = merge_aio(R"({"zero_optimization": {"aio": {}}})", "c.json", block());
  ASSERT_TRUE(result);
  EXPECT_THAT(result->notes, ElementsAre(HasSubstr("zero_optimization.aio is left as it is")));
}

TEST(MergeAio, NullIsAsGoodAsNothing) {
  EXPECT_EQ(merged(R"({"aio": null})"),
            R"({"aio": {"block_size":1048576,"intra_op_parallelism":2}})");
}

TEST(MergeAio, ABrokenTextIsOneClearLine) {
  EXPECT_THAT(merged(""), HasSubstr("parse error at line 1, column 1"));
  EXPECT_THAT(merged("{\n\"a\": 1,\n}"), HasSubstr("c.json"));
  EXPECT_THAT(merged("{\n\"a\": 1,\n}"), HasSubstr("line 3, column 1"));
  EXPECT_THAT(merged("[1]"), HasSubstr("it is no JSON object"));
  EXPECT_THAT(merged(R"({"aio": 7})"), HasSubstr("\"aio\" is no object {...}"));
  EXPECT_THAT(merged(R"({"aio": {}, "b": 1, "aio": {}})"), HasSubstr("\"aio\" is there twice"));
  for (const char* text : {"", "{\n\"a\": 1,\n}", "[1]", R"({"aio": 7})"}) {
    EXPECT_EQ(merged(text).find('\n'), std::string::npos) << merged(text);
  }
}

// Random objects, written in random ways: all members but "aio" come back the same, in order.
TEST(MergeAio, RandomConfigurationsKeepTheirOtherKeys) {
  std::mt19937_64 random(test_seed(4711));
  const auto pick = [&](std::uint64_t below) { return random() % below; };
  const std::vector<std::string> words = {"a", "aio", "b c", "\"", "\\", "{", "}", "[,]", ":", "é"};
  const std::function<ordered_json(int)> value = [&](int depth) -> ordered_json {
    switch (pick(depth > 0 ? 6 : 4)) {
      case 0:
        return words[pick(words.size())];
      case 1:
        return static_cast<double>(pick(1000)) / 7;
      case 2:
        return pick(2) == 0;
      case 3:
        return nullptr;
      case 4: {
        ordered_json list = ordered_json::array();
        for (std::uint64_t i = pick(4); i > 0; --i) list.push_back(value(depth - 1));
        return list;
      }
      default: {
        ordered_json object = ordered_json::object();
        for (std::uint64_t i = pick(4); i > 0; --i) {
          object[words[pick(words.size())]] = value(depth - 1);
        }
        return object;
      }
    }
  };
  for (int i = 0; i < 2000; ++i) {
    ordered_json config = ordered_json::object();
    for (std::uint64_t n = pick(5); n > 0; --n) {
      std::string key = words[pick(words.size())] + (pick(2) == 0 ? "" : "x");
      if (key != "aio") config[key] = value(3);
    }
    const bool has = pick(2) == 0;
    if (has) config["aio"] = ordered_json{{"queue_depth", 3}};
    const std::string text = config.dump(static_cast<int>(pick(4)) - 1, pick(2) == 0 ? ' ' : '\t');
    const auto result = merge_aio(text, "c.json", block());
    ASSERT_TRUE(result) << text;
    ordered_json wanted = config;
    if (!has) wanted["aio"] = ordered_json::object();
    wanted["aio"].update(block());
    EXPECT_EQ(ordered_json::parse(result->text, nullptr, false).dump(), wanted.dump()) << text;
  }
}

class WriteConfig : public ::testing::Test {
 protected:
  std::string text() const {
    std::ostringstream all;
    all << std::ifstream(config_, std::ios::binary).rdbuf();
    return all.str();
  }
  void write(const std::string& text) const { std::ofstream(config_, std::ios::binary) << text; }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(scratch_.path())) {
      found.push_back(entry.path().filename());
    }
    return found;
  }

  Scratch scratch_;
  const fs::path config_ = scratch_ / "ds.json";
};

TEST_F(WriteConfig, AMissingFileIsCreated) {
  ASSERT_TRUE(can_write_config(config_));
  EXPECT_THAT(names(), IsEmpty());
  ASSERT_TRUE(write_config(config_, block()));
  EXPECT_EQ(ordered_json::parse(text()), (ordered_json{{"aio", block()}}));
  EXPECT_THAT(names(), ElementsAre("ds.json"));
  const mode_t mask = umask(0);
  umask(mask);
  struct stat status {};
  ASSERT_EQ(stat(config_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0666u & ~mask);
}

TEST_F(WriteConfig, ModeAndLinkStay) {
  write("{}");
  ASSERT_EQ(chmod(config_.c_str(), 0640), 0);
  fs::create_directory(scratch_ / "links");
  fs::create_symlink("../ds.json", scratch_ / "links/first");
  fs::create_symlink("first", scratch_ / "links/second");
  ASSERT_TRUE(write_config(scratch_ / "links/second", block()));
  EXPECT_TRUE(fs::is_symlink(scratch_ / "links/second"));
  EXPECT_FALSE(fs::is_symlink(config_));
  EXPECT_THAT(text(), HasSubstr("1048576"));
  struct stat status {};
  ASSERT_EQ(stat(config_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST_F(WriteConfig, ABrokenFileIsLeftAsItIs) {
  write("{\"a\": }");
  EXPECT_FALSE(can_write_config(config_));
  EXPECT_FALSE(write_config(config_, block()));
  EXPECT_EQ(text(), "{\"a\": }");
  EXPECT_THAT(names(), ElementsAre("ds.json"));
}

TEST_F(WriteConfig, WhatIsNoFileIsRefused) {
  const auto refused = write_config(scratch_.path(), block());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("it is no regular file"));
  EXPECT_FALSE(can_write_config(scratch_ / "missing/ds.json"));
}

// The disk is full, as far as this process is concerned.
TEST_F(WriteConfig, AFailedWriteLeavesTheOldFileAndNothingElse) {
  write("{\"keep\": \"me\"}");
  const std::string problem = in_child([&]() -> std::string {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit few{8, 8};
    setrlimit(RLIMIT_FSIZE, &few);
    const auto done = write_config(config_, block());
    return done ? "it was written" : done.error().message();
  });
  EXPECT_THAT(problem, HasSubstr("File too large"));
  EXPECT_EQ(text(), "{\"keep\": \"me\"}");
  EXPECT_THAT(names(), ElementsAre("ds.json"));
}

// Killed at any moment, the file is the old one or the new one, whole.
TEST_F(WriteConfig, AKilledWriterLeavesAWholeFile) {
  std::mt19937_64 random(test_seed(4711));
  const std::string filler(200'000, 'x');
  write(ordered_json{{"filler", filler}}.dump());
  for (int run = 0; run < 30; ++run) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int i = 0;; ++i) (void)write_config(config_, {{"block_size", i}});
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const auto config = ordered_json::parse(text(), nullptr, false);
    ASSERT_TRUE(config.is_object()) << "run " << run;
    EXPECT_EQ(config["filler"], filler);
  }
}

}  // namespace
}  // namespace spillway::aio_bench
