// The manifest at the head of every member of a striped file: which file it is a part of, which
// part, and how the bytes are dealt out.
//
// A few lines of text and their checksum, so that `head` shows what a file is; version 1 is the
// only one. It fills the first kStripeHeadBytes of the member, which keeps the stripes behind it
// aligned to whatever a RAID or a flash drive likes.
#pragma once

#include <spillway/aio/error.h>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::aio {

inline constexpr std::uint64_t kStripeHeadBytes = 1 << 20;
// What is read and written of it: the largest alignment that a File may have.
inline constexpr std::size_t kStripeManifestBytes = 64 << 10;

struct StripeManifest {
  std::string set;  // 32 hexadecimal digits, the same in all members
  std::uint32_t member = 0;
  std::uint32_t stripe_bytes = 0;
  std::uint64_t size_bytes = 0;        // of the logical file
  std::vector<std::uint32_t> weights;  // of each member

  bool operator==(const StripeManifest&) const = default;
};

std::string encode(const StripeManifest& manifest);
// `head`: the first bytes of the member `path`. kInvalid when it is no member or of a version not
// known, kCorrupt when its text is damaged.
Result<StripeManifest> decode_manifest(std::string_view head, const std::string& path);

// Whether the manifests, one of each of `paths` in order, are those of one striped file in the
// order it was created with. kInvalid names the path that does not fit, and why.
Result<void> check_set(std::span<const StripeManifest> manifests,
                       std::span<const std::string> paths);

}  // namespace spillway::aio
