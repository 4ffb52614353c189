// The manifest at the head of a striped file's members. Input: the fields of a manifest, then
// changes to its text. What is encoded decodes to the same, and a changed text to nothing.
#include <fuzzer/FuzzedDataProvider.h>
#include <spillway/aio/check.h>
#include <spillway/aio/stripe_map.h>

#include "stripe_manifest.h"

namespace spillway::aio {
namespace {

StripeManifest pick_manifest(FuzzedDataProvider& in) {
  StripeManifest manifest;
  for (int i = 0; i < 32; ++i) {
    manifest.set += "0123456789abcdef"[in.ConsumeIntegralInRange(0, 15)];
  }
  manifest.member = in.ConsumeIntegralInRange<std::uint32_t>(0, 5);
  manifest.stripe_bytes = in.ConsumeBool() ? 4096u << in.ConsumeIntegralInRange(0, 12)
                                           : in.ConsumeIntegral<std::uint32_t>();
  manifest.size_bytes = in.ConsumeIntegral<std::uint64_t>();
  manifest.weights.resize(in.ConsumeIntegralInRange<std::size_t>(0, 6));
  for (std::uint32_t& weight : manifest.weights) {
    weight = in.ConsumeBool() ? 1 : in.ConsumeIntegral<std::uint32_t>();
  }
  return manifest;
}

}  // namespace
}  // namespace spillway::aio

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::aio;
  FuzzedDataProvider in(data, size);
  const StripeManifest manifest = pick_manifest(in);
  const std::string text = encode(manifest);
  const auto same = decode_manifest(text + std::string(100, '\0'), "x");
  const auto map = StripeMap::create(manifest.stripe_bytes, manifest.weights);
  const bool sound = map && manifest.member < manifest.weights.size() &&
                     check_size(*map, manifest.size_bytes).empty();
  SPILLWAY_CHECK(!same || manifest.size_bytes >> 63 == 0, "takes a size that no file can have");
  SPILLWAY_CHECK(same.has_value() == sound, "takes what is unsound, or refuses what is sound");
  SPILLWAY_CHECK(!same || *same == manifest, "decodes to something else");
  std::string changed = text;
  while (in.remaining_bytes() > 0) {
    const std::size_t at = in.ConsumeIntegralInRange<std::size_t>(0, changed.size());
    changed.replace(at, in.ConsumeIntegralInRange(0, 3), in.ConsumeRandomLengthString(20));
  }
  const auto other = decode_manifest(changed, "x");
  SPILLWAY_CHECK(!other || changed.starts_with(encode(*other)), "takes a damaged text");
  SPILLWAY_CHECK(other || !other.error().detail.empty(), "an error without a reason");
  return 0;
}
