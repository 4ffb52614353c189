// The two files aio_bench reads: a configuration to merge its block into, and results to compare.
// Input: either. Merging changes the "aio" block and nothing else; no result crashes the
// comparison.
#include <spillway/aio/check.h>

#include <fstream>

#include "support/scratch.h"
#include "tools/aio_bench/compare.h"
#include "tools/aio_bench/config_merge.h"

namespace spillway::aio_bench {
namespace {

using nlohmann::ordered_json;

void merge(const std::string& text) {
  const ordered_json aio = {{"block_size", 1048576}, {"queue_depth", 8}, {"thread_count", 1}};
  const auto merged = merge_aio(text, "config.json", aio);
  if (!merged) {
    SPILLWAY_CHECK(merged.error().kind == ErrorKind::kInvalid, "another kind of error");
    SPILLWAY_CHECK(!merged.error().detail.empty(), "an error without a reason");
    return;
  }
  ordered_json before = ordered_json::parse(text, nullptr, false, true);
  ordered_json after = ordered_json::parse(merged->text, nullptr, false, true);
  SPILLWAY_CHECK(after.is_object(), "what is written is no JSON object");
  for (const auto& [key, value] : aio.items()) {
    SPILLWAY_CHECK(after["aio"][key] == value, "the block has other values");
  }
  if (!before.is_object()) return;  // an empty file becomes an object
  before.erase("aio");
  after.erase("aio");
  SPILLWAY_CHECK(before == after, "something else was changed");
}

void compare(const std::string& text) {
  static const Scratch scratch;
  const auto path = scratch / "result.json";
  std::ofstream(path, std::ios::binary) << text;
  const auto targets = read_result(path);
  if (!targets) {
    SPILLWAY_CHECK(targets.error().kind == ErrorKind::kInvalid, "another kind of error");
    return;
  }
  for (const StoredTarget& target : *targets) {
    for (const CellChange& change : changes_between(target, target)) {
      SPILLWAY_CHECK(!change.slower() && !change.faster(), "a result differs from itself");
    }
  }
}

}  // namespace
}  // namespace spillway::aio_bench

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  spillway::aio_bench::merge(text);
  spillway::aio_bench::compare(text);
  return 0;
}
