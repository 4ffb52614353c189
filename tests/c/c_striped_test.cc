// Striped files through the C interface: bytes over several directories, and all that is refused.
#include <array>
#include <fstream>
#include <thread>

#include "c_engine_on.h"
#include "support/gated_backend.h"
#include "support/simulator.h"

namespace spillway {
namespace {

class CStriped : public CFixture {
 protected:
  static constexpr std::uint64_t kBytes = 1'000'003;
  static constexpr std::uint32_t kStripe = 16 << 10;

  void SetUp() override {
    CFixture::SetUp();
    for (std::size_t i = 0; i < 3; ++i) {
      names_[i] = (scratch_ / ("d" + std::to_string(i))).string();
      std::filesystem::create_directory(names_[i]);
      directories_[i] = names_[i].c_str();
    }
    engines_ = {engine_, engine_, engine_};
  }
  void TearDown() override {
    if (striped_ != nullptr) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_striped_close(striped_));
    }
    CFixture::TearDown();
  }

  spillway_striped_options place() {
    auto options = zeroed<spillway_striped_options>();
    options.engines = engines_.data();
    options.engine_count = 1;
    options.directories = directories_.data();
    options.directory_count = 3;
    options.name = "data";
    return options;
  }
  spillway_striped_options new_file() {
    auto options = place();
    options.size_bytes = kBytes;
    options.stripe_bytes = kStripe;
    options.speeds = kSpeeds;
    options.speed_count = 3;
    return options;
  }
  void create() {
    const auto options = new_file();
    ASSERT_OK(spillway_striped_create(&options, &striped_));
  }
  // Moves bytes between the file and `bytes`, and waits.
  spillway_status move(bool write, std::uint64_t offset, std::vector<unsigned char>& bytes,
                       std::size_t* moved = nullptr) {
    auto io = zeroed<spillway_io>();
    io.offset = offset;
    io.memory = bytes.data();
    io.size_bytes = bytes.size();
    spillway_request* request = nullptr;
    const auto call = write ? spillway_striped_write : spillway_striped_read;
    if (auto status = call(striped_, &io, &request)) return status;
    return spillway_wait(request, -1, moved);
  }
  static std::vector<unsigned char> bytes(std::size_t count, unsigned seed) {
    std::vector<unsigned char> bytes(count);
    for (std::size_t i = 0; i < count; ++i) {
      bytes[i] = static_cast<unsigned char>(i * 7 + i / 251 + seed);
    }
    return bytes;
  }

  static constexpr double kSpeeds[] = {1, 2, 1};
  std::array<std::string, 3> names_;
  std::array<const char*, 3> directories_{};
  std::array<spillway_engine*, 3> engines_{};
  spillway_striped* striped_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Backends, CStriped,
                         ::testing::Values(SPILLWAY_BACKEND_IO_URING, SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CStriped, BytesComeBackFromAllMembers) {
  create();
  auto written = bytes(kBytes, 1);
  std::size_t moved = 0;
  ASSERT_OK(move(true, 0, written, &moved));
  EXPECT_EQ(moved, kBytes);
  ASSERT_OK(spillway_striped_sync(striped_));

  auto info = zeroed<spillway_striped_info>();
  ASSERT_OK(spillway_striped_get_info(striped_, &info));
  EXPECT_EQ(info.size_bytes, kBytes);
  EXPECT_EQ(info.stripe_bytes, kStripe);
  EXPECT_EQ(info.member_count, 3u);
  std::uint64_t of_members = 0;
  const std::uint64_t weights[] = {1, 2, 1};
  for (std::uint32_t i = 0; i < 3; ++i) {
    auto member = zeroed<spillway_striped_member>();
    ASSERT_OK(spillway_striped_get_member(striped_, i, &member));
    EXPECT_EQ(member.path, names_[i] + "/data");
    EXPECT_EQ(member.weight, weights[i]);
    EXPECT_GE(member.stored_bytes, kBytes / (4 * kStripe) * kStripe * weights[i]);
    EXPECT_EQ(member.read_bytes, 0u);
    of_members += member.written_bytes;
  }
  EXPECT_EQ(of_members, kBytes);

  // Opened again, with an engine for each directory.
  EXPECT_STATUS(SPILLWAY_OK, spillway_striped_close(striped_));
  auto options = place();
  options.engine_count = 3;
  ASSERT_OK(spillway_striped_open(&options, &striped_));
  std::vector<unsigned char> back(100'001, 0xee);
  ASSERT_OK(move(false, 33'333, back, &moved));
  EXPECT_EQ(moved, 100'001u);
  EXPECT_TRUE(std::equal(back.begin(), back.end(), written.begin() + 33'333));
  EXPECT_STATUS(SPILLWAY_MISUSE, move(true, 0, back));
  EXPECT_NE(last_detail().find("not opened writable"), std::string::npos) << last_detail();
  EXPECT_STATUS(SPILLWAY_OK, spillway_striped_close(striped_));

  options.writable = 1;
  ASSERT_OK(spillway_striped_open(&options, &striped_));
  auto changed = bytes(77'777, 5);
  ASSERT_OK(move(true, 500'000, changed));
  std::copy(changed.begin(), changed.end(), written.begin() + 500'000);
  std::vector<unsigned char> all(kBytes);
  ASSERT_OK(move(false, 0, all));
  EXPECT_EQ(all, written);
  EXPECT_STATUS(SPILLWAY_OK, spillway_striped_remove(striped_));
  for (const std::string& name : names_) EXPECT_TRUE(std::filesystem::is_empty(name));
}

TEST_P(CStriped, ALeaseMovesAndComesBack) {
  create();
  spillway_lease* memory = lease();
  const auto written = bytes(kBuffer - 4096, 3);
  std::memcpy(memory_of(memory) + 4096, written.data(), written.size());
  auto io = zeroed<spillway_io>();
  io.offset = 10'000;
  io.lease = memory;
  io.lease_offset = 4096;
  io.size_bytes = written.size();
  io.deadline_ms = 60'000;
  io.urgent = 1;
  spillway_request* requests[2] = {};
  ASSERT_OK(spillway_striped_write(striped_, &io, &requests[1]));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_striped_close(striped_));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_engine_destroy(engine_));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_lease_release(memory));
  EXPECT_STATUS(SPILLWAY_UNSUPPORTED, spillway_expedite(requests[1]));
  std::size_t index = 9;
  ASSERT_OK(spillway_wait_any(requests, 2, -1, &index));
  EXPECT_EQ(index, 1u);
  ASSERT_OK(spillway_wait(requests[1], 0, nullptr));
  std::memset(memory_of(memory), 0, kBuffer);
  ASSERT_OK(spillway_striped_read(striped_, &io, &requests[0]));
  ASSERT_OK(spillway_wait(requests[0], -1, nullptr));
  EXPECT_EQ(0, std::memcmp(memory_of(memory) + 4096, written.data(), written.size()));
  EXPECT_EQ(memory_of(memory)[4095], 0);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CStriped, ACancelledRequestEnds) {
  create();
  for (int round = 0; round < 20; ++round) {
    spillway_lease* memory = lease();
    auto io = io_of(memory, kBuffer);
    io.file = nullptr;
    spillway_request* write = nullptr;
    ASSERT_OK(spillway_striped_write(striped_, &io, &write));
    std::thread other([write] { spillway_cancel(write); });
    const spillway_status ended = spillway_wait(write, -1, nullptr);
    other.join();
    EXPECT_TRUE(ended == SPILLWAY_OK || ended == SPILLWAY_CANCELLED) << ended;
    memory_of(memory);
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  }
}

TEST_P(CStriped, PastTheEndNothingMoves) {
  create();
  std::vector<unsigned char> some(10, 0xee);
  std::size_t moved = 9;
  EXPECT_STATUS(SPILLWAY_INVALID, move(false, kBytes - 9, some, &moved));
  EXPECT_EQ(moved, 0u);
  EXPECT_EQ(some, std::vector<unsigned char>(10, 0xee));
  EXPECT_EQ(spillway_last_error()->offset, kBytes - 9);
}

TEST_P(CStriped, RequestsThatMakeNoSense) {
  create();
  make_file(4096);
  spillway_lease* memory = lease();
  spillway_request* request = nullptr;
  auto io = io_of(memory, 64);
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_read(striped_, &io, &request));
  EXPECT_NE(last_detail().find("`file`"), std::string::npos) << last_detail();
  io = io_of(memory, kBuffer + 1);
  io.file = nullptr;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_read(striped_, &io, &request));
  EXPECT_EQ(request, nullptr);
  io.size_bytes = 64;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_write(striped_, nullptr, &request));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_write(striped_, &io, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_striped_write(nullptr, &io, &request));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_read(engine_, &io, &request));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  auto member = zeroed<spillway_striped_member>();
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_get_member(striped_, 3, &member));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_get_member(striped_, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_get_info(striped_, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_striped_close(nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_striped_sync(nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_striped_remove(nullptr));
}

TEST_P(CStriped, FilesThatMakeNoSense) {
  spillway_striped* striped = nullptr;
  const auto refused = [&](spillway_status status, auto change) {
    auto options = new_file();
    change(options);
    EXPECT_STATUS(status, spillway_striped_create(&options, &striped));
    EXPECT_EQ(striped, nullptr);
    for (const std::string& name : names_) EXPECT_TRUE(std::filesystem::is_empty(name));
  };
  refused(SPILLWAY_MISUSE, [](auto& options) { options.size = 8; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.directories = nullptr; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.directory_count = 0; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.directory_count = UINT32_MAX; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.engines = nullptr; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.engine_count = 0; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.engine_count = 2; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.name = nullptr; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.direct = 3; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.speed_count = 2; });
  refused(SPILLWAY_MISUSE, [](auto& options) { options.speeds = nullptr; });
  const double bad_speeds[] = {1, -1, 1};
  refused(SPILLWAY_INVALID, [&](auto& options) { options.speeds = bad_speeds; });
  refused(SPILLWAY_INVALID, [](auto& options) { options.name = "a/b"; });
  refused(SPILLWAY_INVALID, [](auto& options) { options.size_bytes = 0; });
  refused(SPILLWAY_INVALID, [](auto& options) { options.stripe_bytes = 1; });
  refused(SPILLWAY_NO_SPACE, [](auto& options) { options.size_bytes = std::uint64_t{1} << 59; });
  spillway_engine* none[] = {nullptr};
  refused(SPILLWAY_BAD_HANDLE, [&](auto& options) { options.engines = none; });
  const char* nowhere[] = {directories_[0], nullptr, directories_[2]};
  refused(SPILLWAY_MISUSE, [&](auto& options) { options.directories = nowhere; });
  const char* twice[] = {directories_[0], directories_[1], directories_[0]};
  refused(SPILLWAY_INVALID, [&](auto& options) { options.directories = twice; });
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_create(nullptr, &striped));
  const auto good = new_file();
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_create(&good, nullptr));

  auto there = place();
  EXPECT_STATUS(SPILLWAY_NOT_FOUND, spillway_striped_open(&there, &striped));
  there.size_bytes = kBytes;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_striped_open(&there, &striped));
  create();
  EXPECT_STATUS(SPILLWAY_BUSY, spillway_striped_create(&good, &striped));
  EXPECT_EQ(striped, nullptr);
  EXPECT_STATUS(SPILLWAY_OK, spillway_striped_remove(striped_));
}

// A striped file of two members on an engine of the test's.
struct Held {
  explicit Held(std::unique_ptr<aio::BackendFactory> backend)
      : engine(engine_on(std::move(backend), {.queue_depth = 1})) {
    const std::string names[] = {(scratch / "a").string(), (scratch / "b").string()};
    const char* const directories[] = {names[0].c_str(), names[1].c_str()};
    for (const std::string& name : names) std::filesystem::create_directory(name);
    const double speeds[] = {1, 1};
    auto options = zeroed<spillway_striped_options>();
    options.engines = &engine;
    options.engine_count = 1;
    options.directories = directories;
    options.directory_count = options.speed_count = 2;
    options.speeds = speeds;
    options.name = "data";
    options.size_bytes = 16 * kStripe;
    options.stripe_bytes = kStripe;
    EXPECT_STATUS(SPILLWAY_OK, spillway_striped_create(&options, &striped));
    auto buffers = zeroed<spillway_pool_options>();
    buffers.buffer_bytes = kStripe;
    buffers.buffer_count = 3;
    EXPECT_STATUS(SPILLWAY_OK, spillway_pool_create(nullptr, &buffers, &pool));
    for (spillway_lease*& lease : leases) {
      EXPECT_STATUS(SPILLWAY_OK, spillway_lease_acquire(pool, 0, &lease));
    }
  }
  ~Held() {
    for (spillway_lease* lease : leases) EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(lease));
    EXPECT_STATUS(SPILLWAY_OK, spillway_striped_close(striped));
    EXPECT_STATUS(SPILLWAY_OK, spillway_pool_destroy(pool));
    EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine));
  }
  spillway_io stripe(std::size_t nth) {
    auto io = zeroed<spillway_io>();
    io.offset = nth * kStripe;
    io.size_bytes = kStripe;
    io.lease = leases[nth % 3];
    return io;
  }

  static constexpr std::size_t kStripe = 16 << 10;
  Scratch scratch;
  spillway_engine* engine;
  spillway_striped* striped = nullptr;
  spillway_pool* pool = nullptr;
  spillway_lease* leases[3] = {};
};

TEST(CHeldStriped, AnUrgentRequestGoesFirst) {
  const auto gate = std::make_shared<aio::Gate>();
  gate->open = 1'000'000;
  Held held(std::make_unique<aio::GatedFactory>(gate));
  gate->open = 0;
  const std::size_t before = gate->count();
  spillway_request* requests[3] = {};
  for (std::size_t i = 0; i < 3; ++i) {
    auto io = held.stripe(2 * i);  // of the first member
    io.urgent = i == 2;
    ASSERT_OK(spillway_striped_write(held.striped, &io, &requests[i]));
    while (i == 0 && gate->count() == before) std::this_thread::yield();
  }
  EXPECT_TRUE(gate->settled());
  gate->open = 1'000'000;
  for (spillway_request* request : requests) ASSERT_OK(spillway_wait(request, -1, nullptr));
  const std::vector<std::uint64_t> at(gate->offsets.begin() + static_cast<long>(before),
                                      gate->offsets.end());
  ASSERT_EQ(at.size(), 3u);
  EXPECT_EQ(at[1], at[0] + 2 * Held::kStripe) << "the third in its member";
  EXPECT_EQ(at[2], at[0] + Held::kStripe);
}

TEST(CHeldStriped, WhatHangsIsCancelledOrLate) {
  const auto control = std::make_shared<aio::SimulatorControl>(aio::SimulatorOptions{});
  Held held(aio::simulator_backend(control));
  control->plan({.kind = aio::FaultKind::kStall, .forever = true});
  spillway_request* request = nullptr;
  auto io = held.stripe(1);
  ASSERT_OK(spillway_striped_write(held.striped, &io, &request));
  while (control->faults() == 0) std::this_thread::yield();
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_wait(request, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_cancel(request));
  EXPECT_STATUS(SPILLWAY_CANCELLED, spillway_wait(request, 60'000, nullptr));
  void* memory = nullptr;
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_memory(io.lease, &memory, nullptr));
  io.deadline_ms = 20;
  ASSERT_OK(spillway_striped_write(held.striped, &io, &request));
  EXPECT_STATUS(SPILLWAY_DEADLINE, spillway_wait(request, 60'000, nullptr));
}

}  // namespace
}  // namespace spillway
