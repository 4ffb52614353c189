#include <spillway/aio/check.h>
#include <spillway/aio/patience.h>
#include <spillway/swapper/tier.h>
#include <utility>

namespace spillway::swapper {
namespace {

class CompletedTransfer final : public Transfer::Impl {
 public:
  explicit CompletedTransfer(Result<pinned_pool::Lease> result) : result_(std::move(result)) {}
  bool done() const noexcept override { return true; }
  Result<pinned_pool::Lease> finish(std::chrono::steady_clock::time_point) override {
    return std::move(result_);
  }

 private:
  Result<pinned_pool::Lease> result_;
};

}  // namespace

void Transfer::Impl::when_done(std::function<void()> function) {
  SPILLWAY_CHECK(done(), "this tier's transfers call nothing when they are done");
  function();
}

Transfer Transfer::completed(Result<pinned_pool::Lease> result) {
  return Transfer(std::make_unique<CompletedTransfer>(std::move(result)));
}

bool Transfer::done() const noexcept {
  SPILLWAY_CHECK(valid(), "a Transfer is waited for once");
  return impl_->done();
}

void Transfer::expedite() noexcept {
  SPILLWAY_CHECK(valid(), "a Transfer is waited for once");
  impl_->expedite();
}

void Transfer::cancel() noexcept {
  SPILLWAY_CHECK(valid(), "a Transfer is waited for once");
  impl_->cancel();
}

void Transfer::when_done(std::function<void()> function) {
  SPILLWAY_CHECK(valid(), "a Transfer is waited for once");
  impl_->when_done(std::move(function));
}

Result<pinned_pool::Lease> Transfer::wait(
    std::chrono::seconds timeout, std::optional<std::chrono::steady_clock::time_point>* ended) {
  SPILLWAY_CHECK(valid(), "a Transfer is waited for once");
  const std::unique_ptr<Impl> impl = std::move(impl_);
  auto lease = impl->finish(aio::Patience::after(timeout));
  if (ended != nullptr) *ended = impl->ended();
  return lease;
}

Result<void> Tier::keep_generation(TileId) {
  SPILLWAY_CHECK(false, "a tile that has one generation only");
  return {};
}

Result<void> Tier::seal(const std::vector<bool>& rewritten) {
  SPILLWAY_CHECK(rewritten.size() == tile_count(), "each tile is written again or not");
  return {};
}

void Tier::drop_kept(TileId) { SPILLWAY_CHECK(false, "no generation of this tile is kept"); }

void Tier::roll_back(TileId) { SPILLWAY_CHECK(false, "no generation of this tile is kept"); }

}  // namespace spillway::swapper
