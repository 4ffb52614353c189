#include <spillway/aio/check.h>
#include <spillway/swapper/tile_stream.h>

namespace spillway::swapper {

std::byte* PartView::plane(std::uint32_t plane) const {
  SPILLWAY_CHECK(plane >= part_->planes.first && plane - part_->planes.first < part_->planes.count,
                 "the plane is not in the part's range");
  if (base_ == nullptr) return part_->tier->resident(part_->tile, plane);
  return base_ + part_->tier->layout().plane_offset(plane, elements_, part_->planes.first);
}

std::byte* PartView::plane_of_elements(std::uint32_t plane, std::size_t element_bytes) const {
  std::byte* memory = this->plane(plane);
  const Plane& p = part_->tier->layout().planes()[plane];
  SPILLWAY_CHECK(p.bytes_per_block == element_bytes * p.elements_per_block,
                 "the plane's elements are of another size");
  return memory;
}

Result<void> PartView::verify(std::uint64_t first, std::uint64_t count) const {
  if (checks_ == nullptr) return {};
  return checks_->verify(base_, {.first = first, .count = count});
}

void PartView::record(std::uint64_t first, std::uint64_t count) const {
  if (checks_ != nullptr) checks_->record(base_, {.first = first, .count = count});
}

Result<void> PartView::verify(ElementRange range, std::span<const BlockHash> planes) const {
  SPILLWAY_CHECK(takes_hashes(), "the part takes no hashes");
  return checks_->verify(planes, range);
}

void PartView::record(ElementRange range, std::span<const BlockHash> planes) const {
  SPILLWAY_CHECK(takes_hashes(), "the part takes no hashes");
  checks_->record(planes, range);
}

}  // namespace spillway::swapper
