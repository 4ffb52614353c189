#include "stripe_manifest.h"

#include <charconv>
#include <cstdio>
#include <limits>
#include <utility>

namespace spillway::aio {
namespace {

constexpr std::string_view kTitle = "spillway striped file, version ";
constexpr std::string_view kVersion = "1";

// FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/): for a few hundred bytes of text.
std::string checksum_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

// Takes words off the front of the text.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool skip(std::string_view expected) {
    if (!rest_.starts_with(expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }
  template <typename Number>
  bool number(Number& value) {
    const auto [end, failure] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (failure != std::errc()) return false;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return true;
  }
  std::string word() {
    const std::string_view found = rest_.substr(0, rest_.find_first_of(" \n"));
    rest_.remove_prefix(found.size());
    return std::string(found);
  }

 private:
  std::string_view rest_;
};

bool parse(Reader& in, StripeManifest& manifest) {
  std::uint32_t count = 0;
  if (!in.skip("\nset ")) return false;
  manifest.set = in.word();
  if (!in.skip("\nmember ") || !in.number(manifest.member) || !in.skip(" of ") ||
      !in.number(count) || count > StripeMap::kMaxMembers || !in.skip("\nstripe_bytes ") ||
      !in.number(manifest.stripe_bytes) || !in.skip("\nsize_bytes ") ||
      !in.number(manifest.size_bytes) || !in.skip("\nweights")) {
    return false;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!in.skip(" ") || !in.number(manifest.weights.emplace_back())) return false;
  }
  return true;
}

constexpr std::uint64_t kLargestFile = std::numeric_limits<std::int64_t>::max();  // off_t

}  // namespace

std::uint64_t member_file_bytes(const StripeMap& map, std::size_t member,
                                std::uint64_t size_bytes) {
  return kStripeHeadBytes + map.member_bytes(member, size_bytes);
}

std::string check_size(const StripeMap& map, std::uint64_t size_bytes) {
  const std::string has = "size_bytes is " + std::to_string(size_bytes);
  if (size_bytes > kLargestFile) {
    return has + ", a file has at most " + std::to_string(kLargestFile);
  }
  // At most 2^63 + 2^30 + 2^20: nothing wraps around.
  for (std::size_t member = 0; member < map.member_count(); ++member) {
    const std::uint64_t bytes = member_file_bytes(map, member, size_bytes);
    if (bytes <= kLargestFile) continue;
    return has + ": member " + std::to_string(member) + " would have " + std::to_string(bytes) +
           " bytes, a file has at most " + std::to_string(kLargestFile);
  }
  return {};
}

std::string encode(const StripeManifest& manifest) {
  std::string text = std::string(kTitle) + std::string(kVersion) + "\nset " + manifest.set;
  text += "\nmember " + std::to_string(manifest.member) + " of " +
          std::to_string(manifest.weights.size());
  text += "\nstripe_bytes " + std::to_string(manifest.stripe_bytes);
  text += "\nsize_bytes " + std::to_string(manifest.size_bytes) + "\nweights";
  for (const std::uint32_t weight : manifest.weights) text += " " + std::to_string(weight);
  text += "\n";
  return text + "checksum " + checksum_of(text) + "\n";
}

Result<StripeManifest> decode_manifest(std::string_view head, const std::string& path) {
  const auto refuse = [&](ErrorKind kind, std::string detail) {
    return make_error(kind, "open", path, std::move(detail));
  };
  Reader in(head);
  if (!in.skip(kTitle)) return refuse(ErrorKind::kInvalid, "is no member of a striped file");
  if (const std::string version = in.word(); version != kVersion) {
    return refuse(ErrorKind::kInvalid, "its manifest has version " + version.substr(0, 20) +
                                           ", this program knows version 1 only");
  }
  StripeManifest manifest;
  // Exactly what encode() would write: that checks every digit, and the checksum with them.
  if (!parse(in, manifest) || !head.starts_with(encode(manifest))) {
    return refuse(ErrorKind::kCorrupt, "the manifest at the head of the file is damaged");
  }
  auto map = StripeMap::create(manifest.stripe_bytes, manifest.weights);
  if (!map) return refuse(ErrorKind::kInvalid, "its manifest: " + map.error().detail);
  if (manifest.member >= manifest.weights.size()) {
    return refuse(ErrorKind::kInvalid, "its manifest: no such member");
  }
  if (const std::string wrong = check_size(*map, manifest.size_bytes); !wrong.empty()) {
    return refuse(ErrorKind::kInvalid, "its manifest: " + wrong);
  }
  return manifest;
}

Result<void> check_set(std::span<const StripeManifest> manifests,
                       std::span<const std::string> paths) {
  const StripeManifest& first = manifests.front();
  for (std::size_t i = 0; i < manifests.size(); ++i) {
    const StripeManifest& manifest = manifests[i];
    const auto refuse = [&](const std::string& detail) {
      return make_error(ErrorKind::kInvalid, "open", paths[i], detail);
    };
    const std::string count = std::to_string(manifest.weights.size());
    if (manifest.set != first.set) {
      return refuse("belongs to another striped file than " + paths.front());
    }
    if (manifest.stripe_bytes != first.stripe_bytes) {
      return refuse("has stripes of " + std::to_string(manifest.stripe_bytes) + " bytes, " +
                    paths.front() + " of " + std::to_string(first.stripe_bytes));
    }
    if (manifest.weights.size() != manifests.size()) {
      return refuse("is one of " + count + " members, but " + std::to_string(manifests.size()) +
                    " directories are given");
    }
    if (manifest.member != i) {
      return refuse("is member " + std::to_string(manifest.member) + " of " + count +
                    " and is given as member " + std::to_string(i) +
                    ": the directories must come in the order of creation");
    }
    if (manifest.size_bytes != first.size_bytes || manifest.weights != first.weights) {
      return refuse("does not agree with " + paths.front() + " on size or weights");
    }
  }
  return {};
}

}  // namespace spillway::aio
