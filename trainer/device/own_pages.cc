#include "trainer/device/own_pages.h"

#include <ATen/Functions.h>
#include <c10/util/accumulate.h>
#include <spillway/pinned_pool/slab.h>
#include <spillway/trainer/failure.h>

#include <memory>
#include <utility>

namespace spillway::trainer {
namespace {

constexpr std::size_t kMinBytes = std::size_t{1} << 20;

}  // namespace

at::Tensor empty_on_own_pages(at::IntArrayRef sizes, const at::TensorOptions& options) {
  const std::size_t bytes =
      static_cast<std::size_t>(c10::multiply_integers(sizes)) * options.dtype().itemsize();
  if (bytes < kMinBytes) return at::empty(sizes, options);
  using pinned_pool::Policy;
  pinned_pool::SlabOptions slab{.size_bytes = bytes};
  slab.huge_pages = slab.lock = slab.cuda = Policy::kOff;
  // Shared, because a deleter is copied.
  const auto pages =
      std::make_shared<pinned_pool::Slab>(value_or_throw(pinned_pool::Slab::create(slab)));
  return at::from_blob(
      pages->data(), sizes, [pages](void*) {}, at::TensorOptions().dtype(options.dtype()));
}

}  // namespace spillway::trainer
