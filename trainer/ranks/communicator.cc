#include <spillway/trainer/communicator.h>
#include <spillway/trainer/failure.h>

#include <signal.h>

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/device/device.h"
#include "trainer/ranks/rank_watch.h"

namespace spillway::trainer {
namespace {

[[noreturn]] void fail(ErrorKind kind, std::string detail) {
  throw Failure(make_error(kind, "start ranks", "", std::move(detail)).value());
}

// Of what a backend throws, in words of its own.
std::string first_line_of(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text =
      c10_error != nullptr ? c10_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

// A store of c10d as a board.
class StoreBoard final : public RankBoard {
 public:
  explicit StoreBoard(c10::intrusive_ptr<c10d::Store> store) : store_(std::move(store)) {}
  void write(const std::string& key, const std::string& text) override {
    store_->set(key, std::vector<std::uint8_t>(text.begin(), text.end()));
  }
  std::vector<std::string> read(const std::vector<std::string>& keys) override {
    std::vector<std::string> texts;
    for (const auto& bytes : store_->multiGet(keys)) texts.emplace_back(bytes.begin(), bytes.end());
    return texts;
  }

 private:
  const c10::intrusive_ptr<c10d::Store> store_;
};

std::optional<std::uint32_t> number_from(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  std::uint32_t value = 0;
  const char* end = text + std::char_traits<char>::length(text);
  const auto [read, failed] = std::from_chars(text, end, value);
  if (read != end || failed != std::errc()) {
    fail(ErrorKind::kInvalid,
         std::string(name) + "='" + text + "' in the environment is not a number");
  }
  return value;
}

struct World {
  std::uint32_t rank = 0;
  std::uint32_t size = 1;
  std::uint32_t local_rank = 0;
  std::uint32_t local_size = 1;
  std::string source = {};  // "SLURM_PROCID=0 and SLURM_NTASKS=2", where there are several ranks
};

struct LauncherNames {
  const char *rank, *size, *local_rank, *local_size;
};

World world_from_environment() {
  static constexpr LauncherNames kLaunchers[] = {
      {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
      {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"},
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
       "OMPI_COMM_WORLD_LOCAL_SIZE"}};
  for (const LauncherNames& names : kLaunchers) {
    const auto rank = number_from(names.rank);
    const auto size = number_from(names.size);
    if (!rank || !size) continue;
    if (*rank >= *size) {
      fail(ErrorKind::kInvalid, std::string(names.rank) + "=" + std::to_string(*rank) +
                                    " must be below " + names.size + "=" + std::to_string(*size));
    }
    return {*rank, *size, number_from(names.local_rank).value_or(*rank),
            number_from(names.local_size).value_or(*size),
            std::string(names.rank) + "=" + std::to_string(*rank) + " and " + names.size + "=" +
                std::to_string(*size)};
  }
  return {};
}

// c10d writes to sockets of ranks that may be gone. That is to be an error, which names them, and
// not the end of this process. A program's own handler stays.
void ignore_broken_pipes() {
  struct sigaction action {};
  if (::sigaction(SIGPIPE, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) return;
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

class SingleRank final : public Communicator {
 public:
  std::uint32_t rank() const noexcept override { return 0; }
  std::uint32_t world_size() const noexcept override { return 1; }
  std::uint32_t local_world_size() const noexcept override { return 1; }
  const char* backend_name() const noexcept override { return "none"; }
  void all_gather(at::Tensor full, const at::Tensor& part) override { full.copy_(part); }
  void reduce_scatter(at::Tensor part, at::Tensor full) override { part.copy_(full); }
  double all_reduce_sum(double value) override { return value; }
  void barrier() override {}
};

class C10dRanks final : public Communicator {
 public:
  C10dRanks(const World& world, at::Device device, std::chrono::seconds timeout)
      : world_(world), device_(device), timeout_(timeout) {
    const char* address = std::getenv("MASTER_ADDR");
    const auto port = number_from("MASTER_PORT");
    if (address == nullptr || !port || *port > 65535) {
      fail(ErrorKind::kInvalid,
           world.source +
               " in the environment make this one of several ranks, which need MASTER_ADDR and "
               "MASTER_PORT too; unset the former for a single process");
    }
    // Under torchrun the store is the agent's: every rank is a client of it.
    const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
    const bool agents = agent != nullptr && std::string(agent) == "True";
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(*port);
    options.isServer = world.rank == 0 && !agents;
    options.numWorkers = world.size;
    options.waitWorkers = false;
    options.timeout = timeout;
    const std::string keeper = agents ? "the launcher" : "rank 0";
    const auto open = [&](const std::string& part) {
      auto store = c10::make_intrusive<c10d::TCPStore>(address, options);
      options.isServer = false;
      return c10::make_intrusive<c10d::PrefixStore>(prefix() + part, std::move(store));
    };
    try {
      store_ = open("group");
      auto watched = open("watch");
      meet();
      watch_.emplace(std::make_unique<StoreBoard>(std::move(watched)),
                     RankWatch::Options{.rank = world.rank,
                                        .world_size = world.size,
                                        .keeps_board = world.rank == 0 && !agents,
                                        .board_keeper = keeper});
      group_ = make_group(store_);
    } catch (const Failure&) {
      throw;
    } catch (const std::exception& error) {
      fail(ErrorKind::kDeadline, who_is_missing(keeper) + ": " + first_line_of(error));
    }
  }

  std::uint32_t rank() const noexcept override { return world_.rank; }
  std::uint32_t world_size() const noexcept override { return world_.size; }
  std::uint32_t local_world_size() const noexcept override { return world_.local_size; }
  const char* backend_name() const noexcept override { return kind_of(device_).collectives(); }

  void all_gather(at::Tensor full, const at::Tensor& part) override {
    at::Tensor input = part;
    exchange([&] { group_->_allgather_base(full, input)->wait(); });
  }
  void reduce_scatter(at::Tensor part, at::Tensor full) override {
    exchange([&] { group_->_reduce_scatter_base(part, full)->wait(); });
  }
  double all_reduce_sum(double value) override {
    std::vector<at::Tensor> tensors{
        at::full({1}, value, at::TensorOptions().dtype(at::kDouble).device(device_))};
    exchange([&] { group_->allreduce(tensors)->wait(); });
    return tensors[0].item<double>();
  }
  void barrier() override {
    exchange([&] { group_->barrier()->wait(); });
  }
  void leave(const std::string& reason) noexcept override {
    group_.reset();  // who waits for this rank sees it at once
    if (watch_) watch_->leave(reason);
  }

 private:
  // Runs a collective. After the first that failed every one fails, with the same words: some of
  // its connections may still stand, and would wait in vain.
  template <typename Body>
  void exchange(const Body& body) {
    if (broken_.empty()) {
      watch_->enter_exchange();
      try {
        return body();
      } catch (const std::exception& error) {
        broken_ = watch_->blame() + "; waited " + std::to_string(timeout_.count()) +
                  " s at most; " + first_line_of(error);
      }
    }
    throw Failure(errno_error("exchange with the other ranks", "", EREMOTEIO, broken_).value());
  }

  // torchrun's store outlives a failed attempt, whose keys must not be taken for this one's.
  static std::string prefix() {
    return "spillway/" + std::to_string(number_from("TORCHELASTIC_RESTART_COUNT").value_or(0)) +
           "/";
  }
  static std::string here(std::uint32_t rank) { return "here/" + std::to_string(rank); }
  void meet() {
    store_->set(here(world_.rank), std::vector<std::uint8_t>{1});
    std::vector<std::string> all;
    for (std::uint32_t rank = 0; rank < world_.size; ++rank) all.push_back(here(rank));
    store_->wait(all, timeout_);
  }
  std::string who_is_missing(const std::string& keeper) const {
    std::string missing;
    try {
      if (!store_) return keeper + ", which keeps the store, is not there";
      for (std::uint32_t rank = 0; rank < world_.size; ++rank) {
        if (!store_->check({here(rank)})) missing += " " + std::to_string(rank);
      }
    } catch (const std::exception&) {
      return keeper + ", which keeps the store, is gone";
    }
    if (missing.empty()) return "the ranks found each other, but no connection";
    return "waited " + std::to_string(timeout_.count()) + " s in vain for rank" + missing + " (" +
           world_.source + ")";
  }

  c10::intrusive_ptr<c10d::Backend> make_group(const c10::intrusive_ptr<c10d::Store>& store) {
    const int rank = static_cast<int>(world_.rank);
    const int size = static_cast<int>(world_.size);
    if (backend_name() == std::string_view("nccl")) {
#ifdef USE_C10D_NCCL
      auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = timeout_;
      return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
#else
      fail(ErrorKind::kUnsupported, "several CUDA ranks need a build with CUDA and NCCL");
#endif
    }
    auto options = c10d::ProcessGroupGloo::Options::create();
    options->timeout = timeout_;
    options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice(/*lazyInit=*/false));
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  }

  World world_;
  at::Device device_;
  std::chrono::seconds timeout_;
  c10::intrusive_ptr<c10d::PrefixStore> store_;
  std::optional<RankWatch> watch_;
  c10::intrusive_ptr<c10d::Backend> group_;
  std::string broken_;  // why exchanges fail; empty: they do not
};

}  // namespace

std::uint32_t Communicator::local_rank() { return world_from_environment().local_rank; }

void Communicator::leave(const std::string& /*reason*/) noexcept {}

std::unique_ptr<Communicator> Communicator::from_environment(at::Device device,
                                                             std::chrono::seconds timeout) {
  const World world = world_from_environment();
  if (world.size == 1) return std::make_unique<SingleRank>();
  if (kind_of(device).has_memory_of_its_own() && !device.has_index()) {
    device.set_index(static_cast<at::DeviceIndex>(world.local_rank));
  }
  ignore_broken_pipes();
  return std::make_unique<C10dRanks>(world, device, timeout);
}

}  // namespace spillway::trainer
