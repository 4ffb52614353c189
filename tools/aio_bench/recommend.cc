#include "recommend.h"

#include <fmt/format.h>
#include <spillway/aio/check.h>
#include <spillway/pinned_pool/limits.h>

#include <algorithm>
#include <cmath>

namespace spillway::aio_bench {
namespace {

using pinned_pool::format_bytes;

constexpr double kNoiseOfMedians = 0.75;  // of the spread by the square root of the passes
constexpr double kLargeSpread = 0.10;     // from here on the advice is to measure again

std::string workload_in_words(Workload workload, int read_percent) {
  if (workload != Workload::kMix) return fmt::format("{}s", name_of(workload));
  if (read_percent == 50) return "the trainer's mix (as many bytes read as written)";
  return fmt::format("a mix of {}% reads", read_percent);
}

std::string what_is_saved(const Setting& chosen, const Setting& best) {
  if (chosen.in_flight_bytes() < best.in_flight_bytes()) {
    return fmt::format(
        "{} in flight are enough instead of {}, which costs less memory and less "
        "waiting",
        format_bytes(chosen.in_flight_bytes()), format_bytes(best.in_flight_bytes()));
  }
  if (chosen.thread_count < best.thread_count) {
    return fmt::format("{} thread{} do{} instead of {}", chosen.thread_count,
                       chosen.thread_count == 1 ? "" : "s", chosen.thread_count == 1 ? "es" : "",
                       best.thread_count);
  }
  return fmt::format("a depth of {} does instead of {}", chosen.queue_depth, best.queue_depth);
}

}  // namespace

Recommendation recommend(const std::vector<CellResult>& results, Workload ranked_by) {
  std::vector<const CellResult*> finalists;
  for (const CellResult& result : results) {
    if (result.finalist && result.workload == ranked_by) finalists.push_back(&result);
  }
  SPILLWAY_CHECK(!finalists.empty(), "something must have been measured to recommend it");
  const auto rate = [](const CellResult* one) { return one->gb_per_second(); };
  const CellResult* best = *std::ranges::max_element(finalists, {}, rate);
  std::vector<double> noises;
  for (const CellResult* one : finalists) {
    const auto passes = static_cast<double>(one->repetitions.size());
    noises.push_back(kNoiseOfMedians * one->spread() / std::sqrt(passes));
  }
  const double noise = median(std::move(noises));
  const double as_good = std::clamp(noise, kAsGood, kMostAsGood);
  const CellResult* chosen = best;
  for (const CellResult* one : finalists) {
    const bool is_as_good = rate(one) >= (1 - as_good) * rate(best);
    if (is_as_good && is_smaller(one->setting, chosen->setting)) chosen = one;
  }
  return {.setting = chosen->setting,
          .best = best->setting,
          .ranked_by = ranked_by,
          .gb_per_second = rate(chosen),
          .best_gb_per_second = rate(best),
          .spread = std::max(chosen->spread(), best->spread()),
          .as_good = as_good,
          .noise = noise};
}

std::string reason_of(const Recommendation& found, int read_percent) {
  const std::string workload = workload_in_words(found.ranked_by, read_percent);
  std::string text;
  if (found.setting == found.best) {
    text = fmt::format(
        "{} GB/s: the fastest in {}, and none that holds less in flight comes within {:.0f}%",
        rate_text(found.gb_per_second), workload, 100 * found.as_good);
  } else {
    text = fmt::format("{} GB/s in {}: {:.1f}% below the fastest ({} GB/s with {}), but {}",
                       rate_text(found.gb_per_second), workload,
                       100 * (1 - found.gb_per_second / found.best_gb_per_second),
                       rate_text(found.best_gb_per_second), text_of(found.best),
                       what_is_saved(found.setting, found.best));
    if (found.as_good > kAsGood) {
      text += fmt::format(" (passes differ, so {:.0f}% are taken as equal)", 100 * found.as_good);
    }
  }
  if (found.too_noisy()) {
    text += fmt::format(
        ". THE MACHINE IS TOO NOISY to tell: the speed of a setting is uncertain by {:.0f}%, so "
        "another "
        "run may recommend another setting. Measure again when it is quieter, or for longer with "
        "--time",
        100 * found.noise);
  } else if (found.spread > kLargeSpread) {
    text += fmt::format(
        ". But passes of one setting differ by up to {:.0f}%: measure again when the machine is "
        "quieter, or for longer with --time",
        100 * found.spread);
  }
  return text;
}

}  // namespace spillway::aio_bench
