// The GPU's update has the bits of the CPU's.
#include "trainer/kernels/update_cuda.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "tests/trainer/kernels/optimizer_state.h"
#include "tests/trainer/kernels/update_pieces.h"

namespace spillway::trainer {
namespace {

using testing::TileState;
using testing::UpdatePieces;
using testing::Values;

constexpr std::uint64_t kSeed = 20261;

// The planes of a tile, copied to device memory.
class TileOnDevice {
 public:
  explicit TileOnDevice(TileState& host) : host_(host.planes()), device_(host_) {
    const std::size_t count = host.size();
    const std::size_t half = host_.format.weights == Dtype::kBf16 ? 2 : 4;
    device_.weight = copy(host_.weight, count * half);
    if (host_.weight_lo != nullptr) {
      device_.weight_lo = static_cast<std::uint16_t*>(copy(host_.weight_lo, count * 2));
    }
    for (std::size_t k = 0; k < 2; ++k) device_.states[k] = copy(host_.states[k], count * 4);
    device_.gradient =
        copy(host_.gradient, count * (host_.format.gradients == Dtype::kBf16 ? 2 : 4));
  }
  TileOnDevice(const TileOnDevice&) = delete;
  TileOnDevice& operator=(const TileOnDevice&) = delete;
  ~TileOnDevice() {
    for (const Copy& plane : copies_) cudaFree(plane.device);
  }

  // The device's planes with the pieces of the host's gradient.
  UpdatePlanes planes(std::vector<UpdatePiece>& pieces) const {
    const std::size_t width = host_.format.gradients == Dtype::kBf16 ? 2 : 4;
    for (UpdatePiece& piece : pieces) {
      piece.gradient = static_cast<const std::byte*>(device_.gradient) + piece.offset * width;
    }
    UpdatePlanes planes = device_;
    planes.pieces = pieces;
    return planes;
  }
  // Into the tile it was made of.
  void copy_back() const {
    for (const Copy& plane : copies_) {
      if (plane.host == host_.gradient) continue;
      EXPECT_EQ(cudaMemcpy(const_cast<void*>(plane.host), plane.device, plane.bytes,
                           cudaMemcpyDeviceToHost),
                cudaSuccess);
    }
  }

 private:
  struct Copy {
    const void* host;
    void* device;
    std::size_t bytes;
  };

  void* copy(const void* host, std::size_t bytes) {
    void* device = nullptr;
    EXPECT_EQ(cudaMalloc(&device, bytes), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    copies_.push_back({host, device, bytes});
    return device;
  }

  UpdatePlanes host_, device_;
  std::vector<Copy> copies_;
};

class UpdateCuda : public ::testing::TestWithParam<OptimizerFormat> {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(status);
    }
    std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  }
};

TEST_P(UpdateCuda, HasTheBitsOfTheCpu) {
  for (const Values values : {Values::kTraining, Values::kAnything}) {
    for (const std::size_t size : {0, 1, 255, 256, 257, 4096 * 256 + 1, 3000001}) {
      TileState expected(GetParam(), size + 3, values, kSeed + size);  // three are to stay
      TileState actual = expected;
      TileOnDevice device(actual);
      for (std::uint64_t step = 1; step <= 5; ++step) {
        const UpdateConstants constants = UpdateConstants::at_step(
            {.kind = GetParam().kind, .learning_rate = 3e-4, .weight_decay = 0.1}, step, 0.5f);
        const UpdatePieces pieces(expected.planes(), size, constants, {0, size / 2});
        update_range({}, expected.planes(pieces.get()), 0, size);
        std::vector<UpdatePiece> on_device = pieces.get();
        const auto launched = update_range_cuda({}, device.planes(on_device), 0, size, nullptr);
        ASSERT_TRUE(launched) << launched.error().message();
      }
      device.copy_back();
      ASSERT_EQ(actual.difference(expected), "") << "size " << size;
    }
  }
}

std::vector<OptimizerFormat> formats_on_device() {
  std::vector<OptimizerFormat> formats;
  for (const OptimizerFormat& format : testing::all_formats()) {
    if (format.states == StateDtype::kFp32) formats.push_back(format);
  }
  return formats;
}

INSTANTIATE_TEST_SUITE_P(Formats, UpdateCuda, ::testing::ValuesIn(formats_on_device()),
                         [](const auto& format) { return testing::name_of(format.param); });

}  // namespace
}  // namespace spillway::trainer
