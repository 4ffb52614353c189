#include <spillway/trainer/communicator.h>
#include <spillway/trainer/failure.h>

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
#include <optional>
#include <string>

namespace spillway::trainer {
namespace {

[[noreturn]] void fail(ErrorKind kind, std::string detail) {
  throw Failure(make_error(kind, "start ranks", "", std::move(detail)).value());
}

[[noreturn]] void fail_exchange(const std::string& reason) {
  const std::string line = reason.substr(0, reason.find('\n'));
  throw Failure(errno_error("exchange with the other ranks", "", EREMOTEIO,
                            line + "; has another rank ended?")
                    .value());
}

// Runs a collective; what the backend throws, in words of its own, becomes a Failure.
template <typename Body>
void exchange(const Body& body) {
  try {
    body();
  } catch (const c10::Error& error) {
    fail_exchange(error.what_without_backtrace());
  } catch (const std::exception& error) {
    fail_exchange(error.what());
  }
}

std::optional<std::uint32_t> number_from(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  std::uint32_t value = 0;
  const char* end = text + std::char_traits<char>::length(text);
  if (std::from_chars(text, end, value).ptr != end) {
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
            number_from(names.local_size).value_or(*size)};
  }
  return {};
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
  C10dRanks(const World& world, at::Device device) : world_(world), device_(device) {
    const char* address = std::getenv("MASTER_ADDR");
    const auto port = number_from("MASTER_PORT");
    if (address == nullptr || !port || *port > 65535) {
      fail(ErrorKind::kInvalid,
           "several ranks need MASTER_ADDR and MASTER_PORT in the environment");
    }
    // Under torchrun the store is the agent's: every rank is a client of it.
    const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(*port);
    options.isServer = world.rank == 0 && !(agent != nullptr && std::string(agent) == "True");
    options.numWorkers = world.size;
    options.waitWorkers = false;
    options.timeout = kTimeout;
    auto store = c10::make_intrusive<c10d::TCPStore>(address, options);
    auto prefixed = c10::make_intrusive<c10d::PrefixStore>("spillway", store);
    group_ = make_group(prefixed);
  }

  std::uint32_t rank() const noexcept override { return world_.rank; }
  std::uint32_t world_size() const noexcept override { return world_.size; }
  std::uint32_t local_world_size() const noexcept override { return world_.local_size; }
  const char* backend_name() const noexcept override { return device_.is_cuda() ? "nccl" : "gloo"; }

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

 private:
  c10::intrusive_ptr<c10d::Backend> make_group(const c10::intrusive_ptr<c10d::Store>& store) {
    const int rank = static_cast<int>(world_.rank);
    const int size = static_cast<int>(world_.size);
    if (device_.is_cuda()) {
#ifdef USE_C10D_NCCL
      auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = kTimeout;
      return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
#else
      fail(ErrorKind::kUnsupported, "several CUDA ranks need a build with CUDA and NCCL");
#endif
    }
    auto options = c10d::ProcessGroupGloo::Options::create();
    options->timeout = kTimeout;
    options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice(/*lazyInit=*/false));
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  }

  World world_;
  at::Device device_;
  c10::intrusive_ptr<c10d::Backend> group_;
};

}  // namespace

std::unique_ptr<Communicator> Communicator::from_environment(at::Device device) {
  const World world = world_from_environment();
  if (world.size == 1) return std::make_unique<SingleRank>();
  if (device.is_cuda()) {
    device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(world.local_rank));
  }
  return std::make_unique<C10dRanks>(world, device);
}

}  // namespace spillway::trainer
