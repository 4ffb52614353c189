#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/aio/path_speed.h>
#include <spillway/aio/striped_file.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <thread>
#include <tuple>

#include "stripe_manifest.h"
#include "support/striped_fixture.h"

namespace spillway::aio {
namespace {

using testing::HasSubstr;

class Striped : public StripedFixture {
 protected:
  Striped() : StripedFixture(29) {
    auto engine = Engine::create({.block_size_bytes = 8192, .queue_depth = 8});
    EXPECT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
  }
  std::string why_not_open(const StripedLocation& where) {
    auto file = StripedFile::open({engine_.get()}, where);
    return file ? "opened" : file.error().message();
  }
};

// All at once, and most share a page with the next one.
TEST_F(Striped, WritesInFlightThatShareTheirPagesKeepTheirBytes) {
  constexpr std::size_t kSize = 1001;
  create({engine_.get()}, {1, 1}, 16 * kStripe);
  for (int round = 0; round < 5; ++round) {
    model_ = random_bytes(16 * kStripe);
    std::vector<StripedTicket> tickets;
    for (std::size_t at = 0; at < model_.size(); at += kSize) {
      const std::size_t size = std::min(kSize, model_.size() - at);
      Buffer buffer = Buffer::allocate(size);
      std::memcpy(buffer.data(), model_.data() + at, size);
      tickets.push_back(file_->write({.offset = at, .size_bytes = size}, std::move(buffer)));
    }
    for (StripedTicket& ticket : tickets) ASSERT_TRUE(ticket.wait().transferred);
    expect_contents();
  }
}

TEST_F(Striped, AFailedRemoveNamesTheFirstMember) {
  create({engine_.get()}, {1, 1}, 8 * kStripe);
  ASSERT_TRUE(file_->remove());
  const auto again = file_->remove();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().path, file_->stats()[0].path);
}

TEST_F(Striped, AnyOffsetAndLengthAgainstAModel) {
  for (const std::vector<double>& speeds :
       std::vector<std::vector<double>>{{1}, {1, 1}, {1, 3}, {5, 1, 2}, {1, 1000}}) {
    SCOPED_TRACE(testing::PrintToString(speeds));
    const std::uint64_t size = 40 * kStripe + 777;
    create({engine_.get()}, speeds, size);
    for (int round = 0; round < 60; ++round) {
      const std::uint64_t offset = random_() % size;
      const std::size_t length = random_() % (std::min<std::uint64_t>(size - offset, 200'000) + 1);
      const std::size_t shift = random_() % 3 == 0 ? random_() % 5000 : 0;
      if (random_() % 2 == 0) {
        const Bytes bytes = random_bytes(length);
        auto written = write(offset, bytes, shift);
        ASSERT_TRUE(written) << written.error().message();
        EXPECT_EQ(*written, length);
        std::copy(bytes.begin(), bytes.end(), model_.begin() + static_cast<std::ptrdiff_t>(offset));
      } else {
        auto bytes = read(offset, length, shift);
        ASSERT_TRUE(bytes) << bytes.error().message();
        EXPECT_EQ(*bytes, expected(offset, length));
      }
    }
    expect_contents();
    // Opened again, in the shares of its creation.
    ASSERT_TRUE(file_->sync());
    file_.reset();
    auto again = StripedFile::open({engine_.get()}, location(speeds.size()));
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(again->size_bytes(), size);
    file_.emplace(std::move(*again));
    expect_contents();
    ASSERT_TRUE(file_->remove());
    file_.reset();
  }
}

TEST_F(Striped, EachDirectoryGetsItsShareAndSaysSo) {
  create({engine_.get()}, {1, 3}, 40 * kStripe);
  expect_contents();
  const auto stats = file_->stats();
  ASSERT_EQ(stats.size(), 2u);
  EXPECT_EQ(stats[0].path, (scratch_ / "d0" / "data").string());
  EXPECT_EQ(stats[0].weight, 1u);
  EXPECT_EQ(stats[1].weight, 3u);
  for (const std::size_t i : {0, 1}) {
    const std::uint64_t share = (i == 0 ? 10 : 30) * kStripe;
    EXPECT_EQ(stats[i].stored_bytes, share);
    EXPECT_EQ(stats[i].written_bytes, share);
    EXPECT_EQ(stats[i].read_bytes, share);
    // Room is taken at once, and no more than is needed.
    EXPECT_EQ(std::filesystem::file_size(stats[i].path), share + (1 << 20));
  }
}

// More parts than kMaxParts and more requests than the pool starts with, from several threads.
TEST_F(Striped, ManyRequestsAtOnceCompleteOnceEach) {
  auto second = Engine::create({.block_size_bytes = 4096, .queue_depth = 4, .thread_count = 2});
  ASSERT_TRUE(second);
  second_engine_ = std::move(*second);
  const std::uint64_t size = 2000 * kStripe;
  create({engine_.get(), second_engine_.get()}, {1, 2}, size);
  std::vector<std::thread> threads;
  std::atomic<int> completed{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::pair<std::uint64_t, StripedTicket>> tickets;
      for (std::uint64_t i = 0; i < 40; ++i) {
        const std::uint64_t offset = (i * 3 + static_cast<std::uint64_t>(t)) * 12 * kStripe + 5;
        tickets.emplace_back(offset, file_->read({.offset = offset, .size_bytes = 10 * kStripe},
                                                 Buffer::allocate(10 * kStripe)));
        file_->read({.offset = offset, .size_bytes = 100}, Buffer::allocate(100),
                    [&, offset](Completion done) {
                      completed += done.transferred &&
                                   std::memcmp(done.buffer.data(), &model_[offset], 100) == 0;
                    });
      }
      for (auto& [offset, ticket] : tickets) {
        Completion done = ticket.wait();
        ASSERT_TRUE(done.transferred) << done.transferred.error().message();
        EXPECT_EQ(std::memcmp(done.buffer.data(), &model_[offset], 10 * kStripe), 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  file_.reset();
  engine_.reset();
  second_engine_.reset();
  EXPECT_EQ(completed, 120);
}

TEST_F(Striped, ACallbackMayStartTheNextRequest) {
  create({engine_.get()}, {1, 1}, 40 * kStripe);
  struct Chain {
    StripedFile& file;
    int left = 20;
    std::promise<bool> ended;
    void next(Buffer buffer) {
      file.read({.size_bytes = buffer.capacity()}, std::move(buffer), [this](Completion done) {
        if (!done.transferred || --left == 0) return ended.set_value(done.transferred.has_value());
        next(std::move(done.buffer));
      });
    }
  } chain{*file_, 20, {}};
  chain.next(Buffer::allocate(5 * kStripe));
  EXPECT_TRUE(chain.ended.get_future().get());
}

TEST_F(Striped, ARequestPastTheEndMovesNothing) {
  create({engine_.get()}, {1, 1}, 3 * kStripe);
  auto empty = read(3 * kStripe, 0);
  ASSERT_TRUE(empty);
  for (const std::uint64_t offset : {3ull * kStripe - 10, 1ull << 62, ~0ull}) {
    auto past = write(offset, random_bytes(11));
    ASSERT_FALSE(past);
    EXPECT_EQ(past.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(past.error().message(), HasSubstr("the striped file ends at 49152"));
  }
  expect_contents();
}

TEST_F(Striped, OpenRefusesWhatIsNotTheSet) {
  create({engine_.get()}, {1, 1, 1}, 30 * kStripe);
  file_.reset();
  StripedLocation where = location(3);
  EXPECT_EQ(why_not_open(where), "opened");
  std::swap(where.directories[1], where.directories[2]);
  EXPECT_THAT(why_not_open(where),
              HasSubstr("d2/data: not valid (is member 2 of 3 and is given as member 1"));
  where = location(2);
  EXPECT_THAT(why_not_open(where),
              HasSubstr("d0/data: not valid (is one of 3 members, but 2 directories are given"));
  where.directories[1] = where.directories[0] / ".." / "d0";
  EXPECT_THAT(why_not_open(where), HasSubstr("is the same directory as"));

  // Members of another set, a foreign file, a file cut off, none.
  const std::filesystem::path last = scratch_ / "d2" / "data";
  auto other = StripedFile::create(
      {engine_.get()},
      {.directories = {scratch_ / "d0", scratch_ / "d1", scratch_ / "d2"}, .name = "other"},
      {.size_bytes = 30 * kStripe, .stripe_bytes = kStripe, .speeds = {1, 1, 1}});
  ASSERT_TRUE(other);
  std::filesystem::copy_file(scratch_ / "d2" / "other", last,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(why_not_open(location(3)),
              HasSubstr("d2/data: not valid (belongs to another striped file"));
  std::ofstream(last) << std::string(3 << 20, 'x');
  EXPECT_THAT(why_not_open(location(3)),
              HasSubstr("d2/data: not valid (is no member of a striped file"));
  std::ofstream(last) << "short";
  EXPECT_THAT(why_not_open(location(3)),
              HasSubstr("d2/data: not valid (is no member of a striped file"));
  std::filesystem::remove(last);
  EXPECT_THAT(why_not_open(location(3)), HasSubstr("d2/data: No such file"));
  std::filesystem::resize_file(scratch_ / "d2" / "other", (1 << 20) + 5);
  EXPECT_THAT(why_not_open({.directories = location(3).directories, .name = "other"}),
              HasSubstr("d2/other: not valid (is cut off: has 1048581 bytes of 1212416"));
}

// Of 2^64 - 1 bytes, a member's end wraps around to its head: with room for the manifest alone it
// would be taken for whole, and a write near the end would go to the manifest.
TEST_F(Striped, AManifestWithASizeThatNoFileCanHaveIsRefusedAndStays) {
  std::filesystem::create_directory(scratch_ / "d0");
  const std::filesystem::path path = scratch_ / "d0" / "data";
  const std::string text = encode({.set = std::string(32, 'a'),
                                   .member = 0,
                                   .stripe_bytes = kStripe,
                                   .size_bytes = UINT64_MAX,
                                   .weights = {1}});
  std::ofstream(path) << text;
  std::filesystem::resize_file(path, kStripeHeadBytes);
  auto file = StripedFile::open({engine_.get()}, location(1), {.writable = true});
  if (file) {
    file_.emplace(std::move(*file));
    std::ignore = write(UINT64_MAX - kStripeHeadBytes, random_bytes(4096));
  } else {
    EXPECT_EQ(file.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(file.error().message(), HasSubstr("size_bytes is 18446744073709551615"));
    EXPECT_THAT(file.error().message(), HasSubstr("d0/data"));
  }
  EXPECT_FALSE(file_) << "opened";
  std::string there(text.size(), ' ');
  std::ifstream(path).read(there.data(), static_cast<std::streamsize>(there.size()));
  EXPECT_EQ(there, text);
}

TEST_F(Striped, CreateRefusesAndLeavesNothingBehind) {
  const StripedLocation where = location(2);
  const auto reason = [&](const StripedCreateOptions& options) {
    auto file = StripedFile::create({engine_.get()}, where, options);
    return file ? "created" : file.error().message();
  };
  EXPECT_THAT(reason({.size_bytes = std::uint64_t{1} << 58, .speeds = {1, 1}}),
              HasSubstr("bytes of this filesystem, free are"));
  // Each half would fit alone.
  const std::uint64_t free = std::filesystem::space(scratch_.path()).available;
  EXPECT_THAT(reason({.size_bytes = free / 5 * 6, .speeds = {1, 1}}),
              HasSubstr("bytes of this filesystem, free are"));
  EXPECT_THAT(reason({.size_bytes = 0, .speeds = {1, 1}}), HasSubstr("size_bytes"));
  EXPECT_THAT(reason({.size_bytes = UINT64_MAX, .speeds = {1, 1}}), HasSubstr("size_bytes"));
  EXPECT_THAT(reason({.size_bytes = 1, .stripe_bytes = 5}), HasSubstr("stripe_bytes is 5"));
  EXPECT_THAT(reason({.size_bytes = 1, .speeds = {1, -1}}), HasSubstr("speeds"));
  EXPECT_THAT(reason({.size_bytes = 1, .speeds = {1, 1, 1}}), HasSubstr("speeds"));
  std::ofstream(where.directories[1] / "data") << "precious";
  EXPECT_THAT(reason({.size_bytes = 1, .speeds = {1, 1}}), HasSubstr("d1/data"));
  EXPECT_FALSE(std::filesystem::exists(where.directories[0] / "data"));
  EXPECT_EQ(std::filesystem::file_size(where.directories[1] / "data"), 8u);
  std::filesystem::remove(where.directories[1] / "data");
  std::filesystem::remove(where.directories[1]);
  EXPECT_THAT(reason({.size_bytes = 1, .speeds = {1, 1}}), HasSubstr("d1"));
  EXPECT_FALSE(std::filesystem::exists(where.directories[0] / "data"));
}

// What the speeds are is the bench's business; that they are measured and nothing stays is not.
TEST_F(Striped, WithoutSpeedsTheyAreMeasured) {
  auto file = StripedFile::create({engine_.get()}, location(2), {.size_bytes = 50 << 20});
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->map().member_count(), 2u);
  ASSERT_TRUE(file->remove());
  EXPECT_TRUE(std::filesystem::is_empty(scratch_ / "d0"));
  EXPECT_TRUE(std::filesystem::is_empty(scratch_ / "d1"));
  auto speed = measure_path_speed(*engine_, scratch_.path(), {.size_bytes = 8 << 20});
  ASSERT_TRUE(speed) << speed.error().message();
  EXPECT_GT(speed->write_bytes_per_second, 1e5);
  EXPECT_GT(speed->read_bytes_per_second, 1e5);
  EXPECT_FALSE(measure_path_speed(*engine_, scratch_ / "missing"));
}

}  // namespace
}  // namespace spillway::aio
