// Writes of disjoint bytes give exactly their bytes and the exact length, whatever their alignment,
// whoever makes them: one engine or several, one File or several, threads, processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "support/loop_filesystem.h"
#include "support/scratch.h"
#include "support/seed.h"
#include "support/simulator.h"

namespace spillway::aio {
namespace {

constexpr std::uint64_t kPage = 4096;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// How many bytes differ, those that one of the two lacks included.
std::size_t wrong_bytes(const std::string& actual, const std::string& expected) {
  const std::size_t both = std::min(actual.size(), expected.size());
  std::size_t wrong = std::max(actual.size(), expected.size()) - both;
  for (std::size_t i = 0; i < both; ++i) wrong += actual[i] != expected[i];
  return wrong;
}

Buffer filled(std::size_t size_bytes, char with) {
  Buffer buffer = Buffer::allocate(size_bytes);
  std::fill_n(reinterpret_cast<char*>(buffer.data()), size_bytes, with);
  return buffer;
}

std::unique_ptr<Engine> make_engine(BackendKind kind) {
  auto engine = Engine::create({.backend = kind, .block_size_bytes = 64 << 10, .thread_count = 2});
  return engine ? std::move(*engine) : nullptr;
}

struct Place {
  const char* name;
  BackendKind backend;
  std::uint32_t sector_bytes;  // 0: the filesystem of the tests
};
void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }

class DisjointWrites : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (GetParam().sector_bytes != 0) {
      loop_.emplace(std::uint64_t{96} << 20, "ext4", GetParam().sector_bytes);
      if (!loop_->why_not().empty()) GTEST_SKIP() << loop_->why_not();
    }
    engine_ = make_engine(GetParam().backend);
    if (engine_ == nullptr) GTEST_SKIP() << "this machine forbids io_uring";
  }
  std::filesystem::path path() const {
    return (loop_ ? loop_->mount_point() : scratch_.path()) / "x";
  }
  void start_anew() const { std::ofstream(path(), std::ios::trunc); }
  File open() const {
    auto file = File::open(path(), {.writable = true});
    EXPECT_TRUE(file) << file.error().message();
    return std::move(*file);
  }
  static Ticket write(Engine& engine, const File& file, std::uint64_t offset,
                      std::size_t size_bytes, char with) {
    return engine.write({.file = &file, .offset = offset, .size_bytes = size_bytes},
                        filled(size_bytes, with));
  }
  static void expect_done(Ticket ticket) {
    const Completion done = ticket.wait();
    EXPECT_TRUE(done.transferred) << done.transferred.error().message();
  }

  // Two writes at once, each within pages of its own, past the end of the file.
  void expect_both_kept(Engine& engine, const File& file, Engine& other, const File& other_file) {
    Ticket one = write(engine, file, 0, 5000, 'a');
    Ticket two = write(other, other_file, 2 * kPage, 3001, 'b');
    expect_done(std::move(one));
    expect_done(std::move(two));
    const std::string expected =
        std::string(5000, 'a') + std::string(3192, '\0') + std::string(3001, 'b');
    EXPECT_EQ(wrong_bytes(contents(path()), expected), 0u);
  }

  Scratch scratch_;
  std::optional<LoopFilesystem> loop_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(DisjointWrites, TwoFilesOnOnePathMakeItGrow) {
  for (int round = 0; round < 100; ++round) {
    start_anew();
    const File first = open(), second = open();
    expect_both_kept(*engine_, first, *engine_, second);
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

TEST_P(DisjointWrites, TwoEnginesMakeOneFileGrow) {
  const auto other = make_engine(GetParam().backend);
  for (int round = 0; round < 100; ++round) {
    start_anew();
    const File file = open();
    expect_both_kept(*engine_, file, *other, file);
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

TEST_P(DisjointWrites, PartsInFlightShareTheirPages) {
  constexpr std::size_t kPart = 100'001;
  for (int round = 0; round < 20; ++round) {
    start_anew();
    const File file = open();
    std::vector<Ticket> tickets;
    std::string expected;
    for (std::size_t i = 0; i < 8; ++i) {
      const char with = static_cast<char>('a' + i);
      tickets.push_back(write(*engine_, file, i * kPart, kPart, with));
      expected += std::string(kPart, with);
    }
    for (Ticket& ticket : tickets) expect_done(std::move(ticket));
    ASSERT_EQ(wrong_bytes(contents(path()), expected), 0u) << "round " << round;
  }
}

TEST_P(DisjointWrites, SmallOnesShareOnePage) {
  start_anew();
  const File file = open();
  std::vector<Ticket> tickets;
  std::string expected;
  for (std::size_t i = 0; i < 41; ++i) {
    const char with = static_cast<char>('0' + i);
    tickets.push_back(write(*engine_, file, i * 100, 100, with));
    expected += std::string(100, with);
  }
  for (Ticket& ticket : tickets) expect_done(std::move(ticket));
  EXPECT_EQ(wrong_bytes(contents(path()), expected), 0u);
}

struct Cut {
  std::uint64_t offset;
  std::size_t size_bytes;
};

// Writes its cuts of the file, all with one letter, and reads them again before and after others
// have written theirs.
class Worker {
 public:
  Worker(const std::filesystem::path& path, Engine& engine, char letter)
      : file_(File::open(path, {.writable = true})), engine_(engine), letter_(letter) {}

  bool run(std::span<const Cut> cuts) {
    if (!file_) return false;
    bool good = true;
    for (auto left = cuts; !left.empty();) {
      const auto some = left.first(std::min<std::size_t>(8, left.size()));
      left = left.subspan(some.size());
      std::vector<Ticket> tickets;
      for (const Cut& cut : some) {
        Buffer buffer = filled(cut.size_bytes, letter_);
        if (one_by_one(cut)) {  // of whole pages, by this thread if nothing is in flight
          const auto done = engine_.write_and_wait(request(cut), std::move(buffer));
          good = done.transferred && good;
        } else {
          tickets.push_back(engine_.write(request(cut), std::move(buffer)));
        }
      }
      for (Ticket& ticket : tickets) good = ticket.wait().transferred && good;
      for (const Cut& cut : some) good = has(cut) && good;
    }
    return std::ranges::all_of(cuts, [&](const Cut& cut) { return has(cut); }) && good;
  }

 private:
  Engine::Request request(const Cut& cut) const {
    return {.file = &*file_, .offset = cut.offset, .size_bytes = cut.size_bytes};
  }
  static bool one_by_one(const Cut& cut) { return cut.offset / kPage % 2 == 0; }
  bool has(const Cut& cut) {
    Buffer buffer = filled(cut.size_bytes, '?');
    const Completion done = one_by_one(cut) ? engine_.read_and_wait(request(cut), std::move(buffer))
                                            : engine_.read(request(cut), std::move(buffer)).wait();
    const auto* bytes = reinterpret_cast<const char*>(done.buffer.data());
    return done.transferred &&
           std::all_of(bytes, bytes + cut.size_bytes, [&](char byte) { return byte == letter_; });
  }

  Result<File> file_;
  Engine& engine_;
  char letter_;
};

// Deals random cuts of a file to so many workers. `expected`: what the file then is.
std::vector<std::vector<Cut>> deal(std::mt19937_64& random, unsigned workers,
                                   std::string* expected) {
  constexpr std::size_t kBytes = 1'500'000;
  constexpr std::size_t kSizes[] = {1, 511, 512, 4096, 4097, 8192, 20'000, 70'000};
  std::vector<std::vector<Cut>> cuts(workers);
  while (expected->size() < kBytes) {
    std::size_t size = 1 + random() % kSizes[random() % std::size(kSizes)];
    if (random() % 2 == 0) size = (1 + random() % 4) * kPage - expected->size() % kPage;
    const auto worker = static_cast<unsigned>(random() % workers);
    cuts[worker].push_back({expected->size(), size});
    *expected += std::string(size, static_cast<char>('a' + worker));
  }
  for (auto& of_worker : cuts) std::shuffle(of_worker.begin(), of_worker.end(), random);
  return cuts;
}

// Two threads of this process and two other processes, each with an engine and a File of its own.
TEST_P(DisjointWrites, ThreadsAndProcessesEachKeepTheirBytes) {
  const std::uint64_t seed = test_seed(13);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 4; ++round) {
    start_anew();
    std::string expected;
    const auto cuts = deal(random, 4, &expected);
    const auto work = [&](unsigned worker) {
      const auto engine = make_engine(GetParam().backend);
      if (engine == nullptr) return false;
      return Worker(path(), *engine, static_cast<char>('a' + worker)).run(cuts[worker]);
    };
    engine_.reset();  // a child must not have the threads of an engine
    std::vector<pid_t> children;
    for (const unsigned worker : {2u, 3u}) {
      children.push_back(::fork());
      if (children.back() == 0) ::_exit(work(worker) ? 0 : 1);
    }
    bool good[2] = {};
    std::thread first([&] { good[0] = work(0); });
    good[1] = work(1);
    first.join();
    EXPECT_TRUE(good[0] && good[1]);
    for (const pid_t child : children) {
      int status = 0;
      ::waitpid(child, &status, 0);
      EXPECT_EQ(status, 0) << "a process did not read its bytes again";
    }
    ASSERT_EQ(wrong_bytes(contents(path()), expected), 0u)
        << "round " << round << ", seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Places, DisjointWrites,
    ::testing::Values(Place{"io_uring", BackendKind::kIoUring, 0},
                      Place{"threads", BackendKind::kThreadPool, 0},
                      Place{"io_uring_sectors_512", BackendKind::kIoUring, 512},
                      Place{"io_uring_sectors_4096", BackendKind::kIoUring, 4096},
                      Place{"threads_sectors_4096", BackendKind::kThreadPool, 4096}),
    [](const auto& info) { return std::string(info.param.name); });

// What a later write was to add is not there, and what was there keeps its length.
class UnfinishedWrites : public ::testing::Test {
 protected:
  UnfinishedWrites() {
    auto created = File::create(scratch_ / "x", {});
    file_.emplace(std::move(*created));
    auto engine = Engine::create({}, simulator_backend(control_));
    engine_ = std::move(*engine);
  }
  Ticket write(std::uint64_t offset, std::size_t size_bytes, char with) {
    return engine_->write({.file = &*file_, .offset = offset, .size_bytes = size_bytes},
                          filled(size_bytes, with));
  }

  Scratch scratch_;
  std::shared_ptr<SimulatorControl> control_ = std::make_shared<SimulatorControl>();
  std::optional<File> file_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(UnfinishedWrites, ACancelledOneLeavesTheLength) {
  control_->plan({.kind = FaultKind::kStall, .direction = Direction::kWrite});
  Ticket later = write(2 * kPage, kPage, 'b');
  ASSERT_TRUE(write(0, 5000, 'a').wait().transferred);
  later.cancel();
  EXPECT_EQ(later.wait().transferred.error().kind, ErrorKind::kCancelled);
  EXPECT_EQ(contents(scratch_ / "x"), std::string(5000, 'a'));
}

TEST_F(UnfinishedWrites, AFailedOneLeavesTheLength) {
  control_->plan({.kind = FaultKind::kError, .direction = Direction::kWrite});
  Ticket later = write(2 * kPage, 3000, 'b');
  EXPECT_EQ(later.wait().transferred.error().kind, ErrorKind::kIo);
  ASSERT_TRUE(write(0, 5000, 'a').wait().transferred);
  EXPECT_EQ(contents(scratch_ / "x"), std::string(5000, 'a'));
}

// Nobody reads a page direct while the page cache has the newer one: a failure there is the
// write's.
TEST_F(UnfinishedWrites, AFailureToWriteBackIsReported) {
  control_->plan({.kind = FaultKind::kError, .direction = Direction::kWrite, .nth = 2});
  const Completion done = write(100, 50, 'a').wait();
  if (!file_->direct()) GTEST_SKIP() << "no direct I/O here: " << file_->why_not_direct();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kIo);
  EXPECT_EQ(done.transferred.error().got, 0u);
  EXPECT_NE(done.transferred.error().message().find("writing the page back"), std::string::npos);
}

// Writes in part cost a second descriptor and the write-back of a page; whole pages neither.
TEST_F(UnfinishedWrites, WholePagesCostOneOperationAndNoDescriptor) {
  if (!file_->direct()) GTEST_SKIP() << "no direct I/O here: " << file_->why_not_direct();
  const auto descriptors = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const auto before = descriptors();
  ASSERT_TRUE(write(3 * kPage, 16 * kPage, 'a').wait().transferred);
  EXPECT_EQ(control_->operations(), 1u);
  EXPECT_EQ(descriptors(), before);
  ASSERT_TRUE(write(3 * kPage, 16 * kPage + 1, 'b').wait().transferred);
  EXPECT_EQ(control_->operations(), 1u + 1 + 2);
  EXPECT_EQ(descriptors(), before + 1);
}

// The name may be gone or another file's; the descriptor's permission counts.
TEST_F(UnfinishedWrites, AFileWithoutANameIsWrittenInPart) {
  ASSERT_TRUE(file_->remove());
  std::ofstream(scratch_ / "x") << "another";
  ASSERT_TRUE(write(3, 5000, 'a').wait().transferred);
  EXPECT_EQ(*file_->size_bytes(), 5003u);
  EXPECT_EQ(contents(scratch_ / "x"), "another");
}

}  // namespace
}  // namespace spillway::aio
