#include "trainer/kernels/update.h"

#include <spillway/aio/check.h>
#include "trainer/kernels/block_quantisation.h"
#include "trainer/kernels/hi_lo.h"
#include "trainer/kernels/optimizers/table.h"

#include <algorithm>
#include <cmath>

#include "trainer/kernels/update_arithmetic.h"

namespace spillway::trainer {
namespace {

float load(const void* plane, bool bf16, std::uint64_t i) {
  return bf16 ? bf16_value(static_cast<const std::uint16_t*>(plane)[i])
              : static_cast<const float*>(plane)[i];
}

void store(void* plane, bool bf16, std::uint64_t i, float value) {
  if (bf16) {
    static_cast<std::uint16_t*>(plane)[i] = bf16_bits(value);
  } else {
    static_cast<float*>(plane)[i] = value;
  }
}

float load_weight(const UpdatePlanes& planes, std::uint64_t i) {
  if (planes.format.weights == Dtype::kFp32) return static_cast<float*>(planes.weight)[i];
  return hi_lo_join({static_cast<std::uint16_t*>(planes.weight)[i], planes.weight_lo[i]});
}

void store_weight(const UpdatePlanes& planes, std::uint64_t i, float master) {
  if (planes.format.weights == Dtype::kFp32) {
    static_cast<float*>(planes.weight)[i] = master;
    return;
  }
  const HiLo halves = hi_lo_split(master);
  static_cast<std::uint16_t*>(planes.weight)[i] = halves.hi;
  planes.weight_lo[i] = halves.lo;
}

// The plain form of one optimizer.
template <typename Optimizer>
void update_run_by(const UpdateConstants& constants, const UpdatePlanes& planes,
                   std::uint64_t first, std::uint64_t count) {
  static_assert(Optimizer::kStates == state_count(Optimizer::kKind));
  const OptimizerFormat& format = planes.format;
  const bool bf16_states = format.states == StateDtype::kBf16;
  for (std::uint64_t i = first; i < first + count; ++i) {
    float state[Optimizer::kStates];
    for (std::uint32_t k = 0; k < Optimizer::kStates; ++k) {
      state[k] = load(planes.states[k], bf16_states, i);
    }
    const float gradient = load(planes.gradient, format.gradients == Dtype::kBf16, i);
    const float g = gradient * constants.grad_scale;
    store_weight(planes, i, Optimizer::update(constants, load_weight(planes, i), g, state));
    for (std::uint32_t k = 0; k < Optimizer::kStates; ++k) {
      if (k == 1 && bf16_states) {
        const auto element = planes.first_element + static_cast<std::uint32_t>(i);
        static_cast<std::uint16_t*>(planes.states[k])[i] =
            bf16_bits_at_random(state[k], scramble(constants.rounding_key + element));
      } else {
        store(planes.states[k], bf16_states, i, state[k]);
      }
    }
  }
}

// What an update is made of: by plain loops, or on the SIMD target of this CPU.
struct Steps {
  decltype(&decode_blocks) decode;
  decltype(&update_run_simd) update;
  decltype(&encode_blocks) encode;
  decltype(&update_hashed_simd) update_hashed;
  decltype(&add_elements_simd) add_elements;
};

constexpr Steps kSimd{decode_blocks, update_run_simd, encode_blocks, update_hashed_simd,
                      add_elements_simd};
constexpr Steps kPlain{decode_blocks_reference, update_run_reference, encode_blocks_reference,
                       update_hashed_reference, add_elements_reference};

// The weights from `first` on; the gradient stays.
UpdatePlanes planes_from(const UpdatePlanes& planes, std::uint64_t first) {
  const OptimizerFormat& format = planes.format;
  UpdatePlanes moved = planes;
  moved.weight =
      static_cast<std::byte*>(planes.weight) + first * (format.weights == Dtype::kBf16 ? 2 : 4);
  if (planes.weight_lo != nullptr) moved.weight_lo = planes.weight_lo + first;
  return moved;
}

// States in 8 bits pass through a buffer of fp32 that stays in the L1 cache: decode, update,
// encode.
constexpr std::uint64_t kDecoded = 4 * kQuantisedBlock;

void update_quantised(const Steps& steps, const UpdateConstants& constants,
                      const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count) {
  alignas(64) float decoded[2][kDecoded];
  const std::uint32_t states = state_count(planes.format.kind);
  UpdatePlanes here = planes_from(planes, first);
  here.format.states = StateDtype::kFp32;
  for (std::uint32_t k = 0; k < states; ++k) {
    here.states[k] = decoded[k];
    steps.decode(book_of(planes.format.kind, k),
                 static_cast<std::uint8_t*>(planes.states[k]) + first,
                 planes.absmax[k] + first / kQuantisedBlock, count, decoded[k]);
  }
  for_each_piece(constants, planes, first, count,
                 [&](const UpdateConstants& constants_of_piece, const UpdatePlanes& of_piece,
                     std::uint64_t begin, std::uint64_t elements) {
                   here.gradient = moved_gradient(planes.format, of_piece.gradient,
                                                  static_cast<std::int64_t>(first));
                   steps.update(constants_of_piece, here, begin - first, elements);
                 });
  for (std::uint32_t k = 0; k < states; ++k) {
    steps.encode(book_of(planes.format.kind, k), decoded[k], count,
                 static_cast<std::uint8_t*>(planes.states[k]) + first,
                 planes.absmax[k] + first / kQuantisedBlock);
  }
}

void update_range_by(const Steps& steps, const UpdateConstants& constants,
                     const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count) {
  if (planes.format.states == StateDtype::kInt8) {
    SPILLWAY_CHECK(first % kQuantisedBlock == 0, "a range of int8 states begins with a block");
    for (std::uint64_t done = 0; done < count; done += kDecoded) {
      update_quantised(steps, constants, planes, first + done, std::min(kDecoded, count - done));
    }
    return;
  }
  for_each_piece(constants, planes, first, count, steps.update);
}

using AddBytes = void (swapper::BlockHash::*)(std::span<const std::byte>) noexcept;

void add_elements_by(AddBytes add, const UpdatePlanes& planes, std::uint64_t first,
                     std::uint64_t count, UpdateHashes& hashes) {
  const OptimizerFormat& format = planes.format;
  std::uint32_t plane = 0;
  const auto add_plane = [&](const void* data, std::size_t element_bytes) {
    (hashes.planes[plane++].*
     add)({static_cast<const std::byte*>(data) + first * element_bytes, count * element_bytes});
  };
  const bool split = format.weights == Dtype::kBf16;
  add_plane(planes.weight, split ? 2 : 4);
  if (split) add_plane(planes.weight_lo, 2);
  const std::size_t state_bytes = format.states == StateDtype::kInt8   ? 1
                                  : format.states == StateDtype::kBf16 ? 2
                                                                       : 4;
  for (std::uint32_t k = 0; k < state_count(format.kind); ++k) {
    add_plane(planes.states[k], state_bytes);
  }
}

// Of states in int8, what the absmax planes hold of the elements.
void add_absmax(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                UpdateHashes& hashes) {
  const std::uint32_t states = state_count(planes.format.kind);
  const std::uint32_t plane = (planes.format.weights == Dtype::kBf16 ? 2 : 1) + states;
  const std::uint64_t blocks = (count + kQuantisedBlock - 1) / kQuantisedBlock;
  for (std::uint32_t k = 0; k < states; ++k) {
    hashes.planes[plane + k].add(
        std::as_bytes(std::span(planes.absmax[k] + first / kQuantisedBlock, blocks)));
  }
}

void update_quantised_hashed(const Steps& steps, const UpdateConstants& constants,
                             const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                             UpdateHashes& before, UpdateHashes& after) {
  add_absmax(planes, first, count, before);
  for (std::uint64_t done = 0; done < count; done += kDecoded) {
    const std::uint64_t size = std::min(kDecoded, count - done);
    steps.add_elements(planes, first + done, size, before);
    update_quantised(steps, constants, planes, first + done, size);
    steps.add_elements(planes, first + done, size, after);
  }
  add_absmax(planes, first, count, after);
}

// Elements from `first` on of one piece, `count` at most.
std::uint64_t same_piece(std::span<const UpdatePiece> pieces, std::uint64_t first,
                         std::uint64_t count) {
  const auto next = std::ranges::upper_bound(pieces, first, {}, &UpdatePiece::offset);
  return next == pieces.end() ? count : std::min(count, next->offset - first);
}

void update_range_hashed_by(const Steps& steps, const UpdateConstants& constants,
                            const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                            UpdateHashes& before, UpdateHashes& after) {
  SPILLWAY_CHECK(first % kHashedElements == 0, "hashes are taken of whole lines");
  if (planes.format.states == StateDtype::kInt8) {
    update_quantised_hashed(steps, constants, planes, first, count, before, after);
    return;
  }
  const std::uint64_t end = first + count;
  while (first < end) {
    const std::uint64_t alike =
        same_piece(planes.pieces, first, end - first) / kHashedTogether * kHashedTogether;
    if (alike > 0) {
      for_each_piece(constants, planes, first, alike,
                     [&](const UpdateConstants& constants_of_piece, const UpdatePlanes& of_piece,
                         std::uint64_t begin, std::uint64_t elements) {
                       steps.update_hashed(constants_of_piece, of_piece, begin, elements, before,
                                           after);
                     });
      first += alike;
      continue;
    }
    // Lines that pieces share, and the tile's last ones.
    const std::uint64_t few = std::min(kHashedTogether, end - first);
    steps.add_elements(planes, first, few, before);
    update_range_by(steps, constants, planes, first, few);
    steps.add_elements(planes, first, few, after);
    first += few;
  }
}

}  // namespace

CodeBook book_of(OptimizerKind kind, std::uint32_t state) noexcept {
  return with_optimizer(kind, [state]<typename Optimizer>() {
    SPILLWAY_CHECK(state < Optimizer::kStates, "the optimizer has fewer states");
    return Optimizer::kBooks[state];
  });
}

UpdateConstants UpdateConstants::at_step(const UpdateOptions& options, std::uint64_t step,
                                         float grad_scale) {
  SPILLWAY_CHECK(step >= 1, "an optimizer counts its steps from 1");
  const bool corrected =
      with_optimizer(options.kind, []<typename Optimizer>() { return Optimizer::kCorrectsBias; });
  const double bias1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double bias2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  const auto rounded = [](double value) { return static_cast<float>(value); };
  return UpdateConstants{
      .beta1 = rounded(options.beta1),
      .one_minus_beta1 = rounded(1.0 - options.beta1),
      .beta2 = rounded(options.beta2),
      .one_minus_beta2 = rounded(1.0 - options.beta2),
      .inv_sqrt_bias2 = rounded(1.0 / std::sqrt(bias2)),
      .epsilon = rounded(options.epsilon),
      .step_size = rounded(corrected ? options.learning_rate / bias1 : options.learning_rate),
      .decay = rounded(1.0 - options.learning_rate * options.weight_decay),
      .l2 = rounded(options.weight_decay),
      .grad_scale = grad_scale,
      .rounding_key = scramble(scramble(static_cast<std::uint32_t>(options.seed)) +
                               static_cast<std::uint32_t>(step)),
  };
}

UpdateConstants UpdateConstants::without_weight_decay() const {
  UpdateConstants without = *this;
  without.decay = 1;
  without.l2 = 0;
  return without;
}

void update_run_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                          std::uint64_t first, std::uint64_t count) {
  with_optimizer(planes.format.kind, [&]<typename Optimizer>() {
    update_run_by<Optimizer>(constants, planes, first, count);
  });
}

void add_elements(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                  UpdateHashes& hashes) {
  add_elements_by(&swapper::BlockHash::add, planes, first, count, hashes);
}

void add_elements_reference(const UpdatePlanes& planes, std::uint64_t first, std::uint64_t count,
                            UpdateHashes& hashes) {
  add_elements_by(&swapper::BlockHash::add_reference, planes, first, count, hashes);
}

void update_hashed_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                             std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                             UpdateHashes& after) {
  add_elements_reference(planes, first, count, before);
  update_run_reference(constants, planes, first, count);
  add_elements_reference(planes, first, count, after);
}

void update_range(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                  std::uint64_t count) noexcept {
  update_range_by(kSimd, constants, planes, first, count);
}

void update_range(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                  std::uint64_t count, UpdateHashes& before, UpdateHashes& after) noexcept {
  update_range_hashed_by(kSimd, constants, planes, first, count, before, after);
}

void update_range_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                            std::uint64_t first, std::uint64_t count) noexcept {
  update_range_by(kPlain, constants, planes, first, count);
}

void update_range_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                            std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                            UpdateHashes& after) noexcept {
  update_range_hashed_by(kPlain, constants, planes, first, count, before, after);
}

}  // namespace spillway::trainer
