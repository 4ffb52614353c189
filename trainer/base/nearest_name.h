// nearest_name: which known name a misspelt one was meant to be.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace spillway::trainer {

// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`: the optimal string
// alignment distance, since a swap ("pipeline_raed") is the commonest slip.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate with the fewest edits; empty when even that one needs more than a third of the
// name's length (at least 2), since a wild guess misleads. Of equals the first.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

}  // namespace spillway::trainer
