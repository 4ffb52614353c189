// The Nth I/O of a whole life of a store fails, for N = 1, 2, ... until none is left to fail.
#include <gtest/gtest.h>

#include <cerrno>

#include "swapper_fault_fixture.h"

namespace spillway::swapper {
namespace {

constexpr std::uint32_t kOld = 100;
constexpr std::uint32_t kNew = 200;

// After the failure and with the fault gone: no buffer is lost; a tile that was not yet computed
// has its old bytes; any other has its old or its new ones or is known to be damaged. Then
// everything can be written anew.
void expect_nothing_lost(FaultFixture& fixture, const std::set<TileId>& computed) {
  EXPECT_EQ(fixture.pool().available(), FaultFixture::kBuffers);
  for (TileId tile = 0; tile < fixture.store().tile_count(); ++tile) {
    const auto has_old = check_tile(fixture.store(), tile, fixture.all(), kOld + tile);
    if (has_old) continue;
    EXPECT_TRUE(computed.contains(tile)) << has_old.error().message();
    const auto has_new = check_tile(fixture.store(), tile, fixture.all(), kNew + tile);
    EXPECT_TRUE(has_new || has_new.error().kind == ErrorKind::kCorrupt)
        << has_new.error().message();
  }
  EXPECT_TRUE(ok(fixture.write_all(kOld)));
  std::set<TileId> all;
  EXPECT_TRUE(ok(fixture.sweep(kOld, kNew, all)));
  EXPECT_TRUE(ok(fixture.check_all(kNew)));
}

class NthFailure : public testing::TestWithParam<std::pair<int, bool>> {};

TEST_P(NthFailure, IsReportedAndLosesNothing) {
  const auto [errno_value, forever] = GetParam();
  for (std::uint64_t nth = 1;; ++nth) {
    SCOPED_TRACE("operation " + std::to_string(nth));
    FaultFixture fixture;
    fixture.control().plan({.kind = aio::FaultKind::kError,
                            .direction = std::nullopt,
                            .nth = nth,
                            .forever = forever,
                            .errno_value = errno_value});
    std::set<TileId> computed;
    Result<void> outcome = fixture.write_all(kOld);
    const bool filled = outcome.has_value();
    if (outcome) outcome = fixture.sweep(kOld, kNew, computed);
    if (outcome) outcome = fixture.check_all(kNew);
    const bool struck = fixture.control().faults() > 0;
    EXPECT_EQ(outcome.has_value(), !struck);
    if (!outcome) {
      EXPECT_EQ(outcome.error().errno_value, errno_value) << outcome.error().message();
      EXPECT_NE(outcome.error().detail.find("tile "), std::string::npos);
      EXPECT_NE(outcome.error().detail.find("plane "), std::string::npos);
      EXPECT_EQ(outcome.error().path, fixture.store().place(0).path);
    }
    fixture.control().clear();
    if (!struck) {
      EXPECT_GE(nth, 3u * 2 * 4);  // two pieces a tile, written, read, written, read
      return;
    }
    if (filled) expect_nothing_lost(fixture, computed);
  }
}

INSTANTIATE_TEST_SUITE_P(Errors, NthFailure,
                         testing::Values(std::pair(EIO, false), std::pair(EIO, true),
                                         std::pair(ENOSPC, false), std::pair(ENOSPC, true),
                                         std::pair(EINVAL, false), std::pair(EINVAL, true),
                                         std::pair(ECANCELED, false), std::pair(ECANCELED, true)));

}  // namespace
}  // namespace spillway::swapper
