// StripeManifest: the head of every member of a striped file. It names the file, the member and the
// distribution of the stripes.
//
// It is a few lines of text with a checksum, so `head` shows what a file is. Version 1 is the only
// one. It fills the first kStripeHeadBytes of the member, so that the stripes after it are aligned
// for a RAID or a flash drive.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/stripe_map.h>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::aio {

inline constexpr std::uint64_t kStripeHeadBytes = 1 << 20;
// Bytes of it that are read and written: the largest alignment of a File.
inline constexpr std::size_t kStripeManifestBytes = 64 << 10;

struct StripeManifest {
  std::string set;  // 32 hexadecimal digits, the same in all members
  std::uint32_t member = 0;
  std::uint32_t stripe_bytes = 0;
  std::uint64_t size_bytes = 0;        // of the logical file
  std::vector<std::uint32_t> weights;  // of each member

  bool operator==(const StripeManifest&) const = default;
};

// Returns the bytes of a member's file. REQUIRES: `check_size` accepts the size.
std::uint64_t member_file_bytes(const StripeMap& map, std::size_t member, std::uint64_t size_bytes);
// Checks that the logical file and each member end at an offset that a file can have: else a place
// computed from an offset could wrap around, into a manifest. Returns what is wrong, or nothing.
std::string check_size(const StripeMap& map, std::uint64_t size_bytes);

std::string encode(const StripeManifest& manifest);
// Decodes `head`, the first bytes of the member `path`. kInvalid if it is no member, of an unknown
// version or of a size that no file can have, kCorrupt if its text is damaged.
Result<StripeManifest> decode_manifest(std::string_view head, const std::string& path);

// Checks that the manifests, one for each of `paths`, belong to one striped file in the order of
// its creation. kInvalid names the path that does not fit, and the reason.
Result<void> check_set(std::span<const StripeManifest> manifests,
                       std::span<const std::string> paths);

}  // namespace spillway::aio
