// The file of metrics: what it keeps, what it refuses.
#include "trainer/run/metrics_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/trainer/run/run_fixture.h"

namespace spillway::trainer::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MetricsFileTest : public RunTest {
 protected:
  void fill(const std::string& text) const { std::ofstream(path_) << text; }
  std::string text() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::uint64_t> steps() const {
    std::ifstream file(path_);
    std::vector<std::uint64_t> found;
    for (std::string line; std::getline(file, line);) {
      found.push_back(nlohmann::json::parse(line).at("step"));
    }
    return found;
  }
  static StepFigures figures(std::uint64_t step) {
    StepFigures figures;
    figures.report.step = step;
    figures.report.loss = 1.0 / 3;
    return figures;
  }
  void write(std::uint64_t done, std::uint64_t first, std::uint64_t last) const {
    MetricsFile file(path_, done);
    for (std::uint64_t step = first; step <= last; ++step) file.write(figures(step));
  }

  const std::filesystem::path path_ = scratch_ / "metrics.jsonl";
};

TEST_F(MetricsFileTest, HoldsAnObjectPerStepThatReadsBackToTheSameBits) {
  write(0, 1, 2);
  EXPECT_THAT(steps(), ElementsAre(1, 2));
  const std::string first = text().substr(0, text().find('\n'));
  EXPECT_EQ(nlohmann::json::parse(first).at("loss").get<double>(), 1.0 / 3);
  EXPECT_FALSE(nlohmann::json::parse(first).contains("eval_loss"));
}

TEST_F(MetricsFileTest, KeepsTheStepsThatAreDoneAndNoLineCutShort) {
  write(0, 1, 4);
  std::ofstream(path_, std::ios::app) << R"({"step":5,"lo)";
  write(2, 3, 3);
  EXPECT_THAT(steps(), ElementsAre(1, 2, 3));
  write(0, 1, 1);
  EXPECT_THAT(steps(), ElementsAre(1));
}

TEST_F(MetricsFileTest, RefusesAForeignFileAndLeavesIt) {
  const std::string thesis = "chapter one\n";
  fill(thesis);
  const Error error = failure_of([&] { MetricsFile(path_, 0); });
  EXPECT_EQ(error.kind, ErrorKind::kInvalid);
  EXPECT_THAT(error.message(), HasSubstr(path_.string()));
  EXPECT_EQ(text(), thesis);
}

TEST_F(MetricsFileTest, FailsWhereNothingCanBeWritten) {
  const Error missing = failure_of([&] { MetricsFile(scratch_ / "no" / "directory", 0); });
  EXPECT_EQ(missing.kind, ErrorKind::kNotFound);
  const Error full = failure_of([&] { MetricsFile("/dev/full", 0).write(figures(1)); });
  EXPECT_EQ(full.kind, ErrorKind::kNoSpace);
}

}  // namespace
}  // namespace spillway::trainer::testing
