#include "trainer/plan/cache_plan.h"
#include <algorithm>

namespace spillway::trainer {
namespace {

using pinned_pool::format_bytes;

std::uint64_t less(std::uint64_t from, std::uint64_t bytes) { return from - std::min(from, bytes); }

// Takes what fits of the store from the budget; says how many of its elements that are.
std::uint64_t take(const CacheableStore& store, std::uint64_t& budget) {
  if (store.bytes == 0) return 0;
  const std::uint64_t bytes = std::min(store.bytes, budget);
  budget -= bytes;
  const double share = static_cast<double>(bytes) / static_cast<double>(store.bytes);
  return static_cast<std::uint64_t>(share * static_cast<double>(store.elements));
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return std::to_string(100 * part / std::max<std::uint64_t>(whole, 1)) + "%";
}

}  // namespace

std::uint64_t free_ram_bytes(const pinned_pool::MemoryLimits& limits, bool must_be_locked) {
  std::uint64_t bytes = less(limits.available_bytes, limits.untouched_bytes);
  if (limits.cgroup_limit_bytes != pinned_pool::MemoryLimits::kUnlimited) {
    bytes = std::min(
        bytes, less(limits.cgroup_limit_bytes, limits.cgroup_used_bytes + limits.untouched_bytes));
  }
  if (must_be_locked && limits.memlock_bytes != pinned_pool::MemoryLimits::kUnlimited) {
    bytes = std::min(bytes, less(limits.memlock_bytes, limits.locked_bytes));
  }
  return bytes;
}

std::uint64_t cache_margin_bytes(std::uint64_t free_bytes) {
  return std::max(free_bytes / 4, std::uint64_t{512} << 20);
}

CachePlan plan_cache(const CacheNeeds& needs) {
  CachePlan plan;
  if (needs.weights.bytes + needs.optimizer.bytes == 0) return plan;
  plan.margin_bytes = cache_margin_bytes(needs.free_bytes);
  const std::uint64_t share = less(needs.free_bytes, plan.margin_bytes) / needs.local_ranks;
  std::uint64_t budget = less(share, needs.other_bytes);
  const std::uint64_t before = budget;
  plan.weight_elements = take(needs.weights, budget);
  plan.optimizer_elements = take(needs.optimizer, budget);
  plan.note = "keeps ";
  if (needs.weights.bytes > 0) {
    plan.note += percent(plan.weight_elements, needs.weights.elements) + " of the parameters";
  }
  if (needs.optimizer.bytes > 0) {
    plan.note += needs.weights.bytes > 0 ? " and " : "";
    plan.note +=
        percent(plan.optimizer_elements, needs.optimizer.elements) + " of the optimizer states";
  }
  plan.note += " in RAM (" + format_bytes(before - budget) + " of " +
               format_bytes(needs.free_bytes) + " free";
  if (needs.local_ranks > 1)
    plan.note += ", shared by " + std::to_string(needs.local_ranks) + " ranks";
  plan.note += "; " + format_bytes(needs.other_bytes) + " are for buffers, gradients and weights " +
               "in use, " + format_bytes(plan.margin_bytes) + " stay free); max_in_cpu sets it";
  return plan;
}

}  // namespace spillway::trainer
