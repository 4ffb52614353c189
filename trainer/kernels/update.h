// The update of weights and optimizer states in one pass over memory: unscale and clip, update,
// split into hi and lo. optimizers/ has the formula of each optimizer; update_range picks it.
//
// The arithmetic is written out op by op, one rounding per operation named, so that the reference,
// every SIMD target and the CUDA kernel give the same bits for any tile size, split and number of
// threads. It is fp32 whatever the states are kept in: p is the fp32 master weight and
// g = grad * grad_scale. Denormals count in full. Only the sign and payload of a NaN are not
// promised. Nothing here blocks or allocates; any thread may call.
#pragma once

#include <spillway/swapper/block_hash.h>
#include <spillway/trainer/config_types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "trainer/kernels/block_quantisation.h"

namespace spillway::trainer {

struct UpdateOptions {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  std::uint64_t seed = 0;  // of the random rounding
};

// The constants of one step, rounded to float once. Bias corrections come from the step number in
// double: 1 - beta^step, never from a running product.
struct UpdateConstants {
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float inv_sqrt_bias2;  // 1 / sqrt(1 - beta2^step)
  float epsilon;
  float step_size;             // learning_rate; Adam, AdamW: over (1 - beta1^step)
  float decay;                 // 1 - learning_rate * weight_decay
  float l2;                    // weight_decay
  float grad_scale;            // unscaling and clipping in one factor
  std::uint32_t rounding_key;  // of seed and step

  // step counts from 1.
  static UpdateConstants at_step(const UpdateOptions& options, std::uint64_t step,
                                 float grad_scale);
  UpdateConstants without_weight_decay() const;
};

// Neighbouring elements of a tile with one gradient array and one set of constants: a parameter, a
// part of one, or several that agree.
struct UpdatePiece {
  std::uint64_t offset = 0;  // elements from the start of the tile
  std::uint64_t elements = 0;
  const void* gradient = nullptr;  // of the piece's first element; format as UpdatePlanes::gradient
  UpdateConstants constants;
};

// The planes of a tile, each at the tile's first element and aligned to its elements. The gradient
// is read, the rest read and written.
//
// States in bf16: a change below half a step (2^-9 to 2^-8 of the value) would be lost. With
// beta2 = 0.999 a second moment rounded to nearest never falls. So the second state alone is
// rounded at random, up with the probability of what is cut off: bits + (hash(rounding_key +
// element) mod 2^16), cut. The hash depends on seed, step and element, not on threads or tiles. The
// first state, whose changes are a tenth, is rounded to nearest even. States in int8 are blocks of
// 256 (block_quantisation.h), whose absmax in fp32 falls by beta2 as it should.
struct UpdatePlanes {
  OptimizerFormat format = {};
  void* weight = nullptr;              // float; with bf16 weights the 16 bits of hi
  std::uint16_t* weight_lo = nullptr;  // bf16 weights only
  void* states[2] = {};                // Adam: exp_avg, exp_avg_sq; Lion: exp_avg; Adagrad: sum
  float* absmax[2] = {};               // int8 states only: of each block of kQuantisedBlock
  const void* gradient = nullptr;      // float or the 16 bits of bf16; of a tile without pieces
  std::uint32_t first_element = 0;     // names the tile's first element in the model, mod 2^32
  // Without gaps over the tile, with their own gradients and constants. Empty: `gradient`, and the
  // constants of the call.
  std::span<const UpdatePiece> pieces = {};
};

// Updates elements [first, first + count) of the tile on the calling thread, with the best SIMD
// target of this CPU. The same bits as the reference. REQUIRES: with int8 states, that `first` and,
// except at the tile's end, `count` are multiples of kQuantisedBlock.
void update_range(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                  std::uint64_t count) noexcept;
// Of each plane that is written: the weight, then those of optimizer_layout, in its order.
struct UpdateHashes {
  swapper::BlockHash planes[6];
};
// So many elements are whole lines of every plane, of absmax too.
inline constexpr std::uint64_t kHashedElements = 16 * kQuantisedBlock;
// The same, and adds what the planes hold of the elements to `before`, and what they become to
// `after`, in the one pass over memory. REQUIRES: `first` is a multiple of kHashedElements; so is
// `count`, but for the hashes' last call.
void update_range(const UpdateConstants& constants, const UpdatePlanes& planes, std::uint64_t first,
                  std::uint64_t count, UpdateHashes& before, UpdateHashes& after) noexcept;
// Plain loops, the definition.
void update_range_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                            std::uint64_t first, std::uint64_t count) noexcept;
void update_range_reference(const UpdateConstants& constants, const UpdatePlanes& planes,
                            std::uint64_t first, std::uint64_t count, UpdateHashes& before,
                            UpdateHashes& after) noexcept;

// Returns how a state is coded in int8. REQUIRES: state < state_count(kind).
CodeBook book_of(OptimizerKind kind, std::uint32_t state) noexcept;

// Name of the SIMD target update_range uses here: "AVX3" (AVX-512), "AVX3_DL" (with VAES), "AVX2",
// "NEON", or "SCALAR" for the reference, where the CPU has no fused multiply-add.
const char* simd_target_name() noexcept;

}  // namespace spillway::trainer
