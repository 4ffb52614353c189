// What tiles of weights and of optimizer states are made of, from the configuration: one place for
// those who store them, update them and predict their bytes.
//
// Weights are one plane: `param_hi` (bf16 training) or `param` (fp32). Optimizer states: `param_lo`
// (bf16 training), then the states of the optimizer, then, of states in int8, their blocks' absmax.
// They are two layouts because forward reads
// weights alone; a tile of either has the same elements.
#pragma once

#include <spillway/swapper/layout.h>
#include <spillway/trainer/config.h>
#include "trainer/kernels/update.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway::trainer {

// What the configuration asks for; gradients as fp32.
OptimizerFormat optimizer_format(const Config& config);

// Elements of a tile, but of a unit's last: sub_group_size and at most `most`; with int8 states
// whole blocks of them, so that the blocks, and with them the results, are the same for any size.
std::uint64_t tile_elements(const Config& config, std::uint64_t most);

swapper::Layout weight_layout(const OptimizerFormat& format);
swapper::Layout weight_layout(const Config& config);
swapper::Layout optimizer_layout(const OptimizerFormat& format);
swapper::Layout optimizer_layout(const Config& config);

// Without padding: 10 for AdamW's states of bf16 training, 4.03125 with them in int8.
double bytes_per_element(const swapper::Layout& layout);

// The planes as the update takes them, without gradient and pieces. `states`: the addresses of the
// planes of optimizer_layout, in its order. REQUIRES: as many as it has.
UpdatePlanes update_planes(const OptimizerFormat& format, std::byte* weight,
                           std::span<std::byte* const> states);

// What was hashed of a tile of weight_layout and of optimizer_layout, in their order.
std::span<const swapper::BlockHash> weight_hashes(const UpdateHashes& hashes);
// Of the states.
std::span<const swapper::BlockHash> state_hashes(const UpdateHashes& hashes,
                                                 const OptimizerFormat& format);

}  // namespace spillway::trainer
