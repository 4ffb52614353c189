// The engine knows the files of a store while it has them, and not a moment longer: the kernel
// gives their descriptors to other files.
#include <gtest/gtest.h>
#include <spillway/aio/backend.h>

#include <memory>
#include <mutex>
#include <set>

#include "store_fixture.h"

namespace spillway::swapper {
namespace {

struct Registered {
  std::mutex mutex;
  std::multiset<int> files;  // descriptors, once for each thread
  std::size_t count() {
    const std::lock_guard lock(mutex);
    return files.size();
  }
};

class CountingBackend final : public aio::Backend {
 public:
  CountingBackend(std::unique_ptr<aio::Backend> backend, std::shared_ptr<Registered> registered)
      : backend_(std::move(backend)), registered_(std::move(registered)) {}
  const char* name() const noexcept override { return "counting"; }
  std::size_t submit(std::span<const aio::Operation> operations) override {
    return backend_->submit(operations);
  }
  std::size_t reap(std::span<aio::Event> events, std::chrono::nanoseconds timeout) override {
    return backend_->reap(events, timeout);
  }
  void cancel_all() override { backend_->cancel_all(); }
  void cancel(std::uint64_t user_data) override { backend_->cancel(user_data); }
  void wake() noexcept override { backend_->wake(); }
  Result<void> register_memory(std::span<std::byte>) override { return {}; }
  void unregister_memory(std::span<std::byte>) override {}
  void register_file(int fd) override {
    const std::lock_guard lock(registered_->mutex);
    registered_->files.insert(fd);
  }
  void unregister_file(int fd) override {
    const std::lock_guard lock(registered_->mutex);
    const auto file = registered_->files.find(fd);
    ASSERT_NE(file, registered_->files.end());
    registered_->files.erase(file);
  }
  std::uint64_t system_calls() const noexcept override { return backend_->system_calls(); }

 private:
  const std::unique_ptr<aio::Backend> backend_;
  const std::shared_ptr<Registered> registered_;
};

class CountingFactory final : public aio::BackendFactory {
 public:
  explicit CountingFactory(std::shared_ptr<Registered> registered)
      : registered_(std::move(registered)) {}
  Result<std::unique_ptr<aio::Backend>> make(std::uint32_t depth) override {
    auto backend = threads_->make(depth);
    if (!backend) return backend;
    return std::make_unique<CountingBackend>(std::move(*backend), registered_);
  }

 private:
  const std::unique_ptr<aio::BackendFactory> threads_ = aio::thread_pool_backend();
  const std::shared_ptr<Registered> registered_;
};

TEST(RegisteredFiles, AreThoseOfLivingStores) {
  const auto registered = std::make_shared<Registered>();
  auto engine =
      aio::Engine::create({.queue_depth = 2}, std::make_unique<CountingFactory>(registered));
  ASSERT_TRUE(engine) << engine.error().message();
  const Scratch first_directory, second_directory;
  const Layout layout({{"param", 4}});
  const auto create = [&](const Scratch& directory) {
    auto store = TileStore::create(
        **engine, layout, std::vector<std::uint64_t>(4, 1024),
        {.directories = {directory.path()}, .segment_bytes = 2 * layout.tile_bytes(1024)});
    EXPECT_TRUE(store) << store.error().message();
    return std::move(*store);
  };
  auto first = create(first_directory);
  EXPECT_EQ(registered->count(), 2u);
  auto second = create(second_directory);
  EXPECT_EQ(registered->count(), 4u);
  for (TileId tile = 0; tile < 4; ++tile) {
    ASSERT_TRUE(ok(write_tile(*second, tile, layout.all(), tile)));
  }
  first.reset();
  EXPECT_EQ(registered->count(), 2u);
  for (TileId tile = 0; tile < 4; ++tile) {
    EXPECT_TRUE(ok(check_tile(*second, tile, layout.all(), tile)));
  }
  second.reset();
  EXPECT_EQ(registered->count(), 0u);
}

}  // namespace
}  // namespace spillway::swapper
