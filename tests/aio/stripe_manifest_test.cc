#include "stripe_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway::aio {
namespace {

using testing::HasSubstr;

const StripeManifest kManifest{.set = "00112233445566778899aabbccddeeff",
                               .member = 1,
                               .stripe_bytes = 65536,
                               .size_bytes = 1'000'000,
                               .weights = {1, 3}};

std::string reason(const std::string& text) {
  const auto manifest = decode_manifest(text, "/b/data");
  return manifest ? "accepted" : manifest.error().message();
}

// This is on disks: files of version 1 must stay readable.
TEST(StripeManifest, IsTheTextOfVersionOne) {
  EXPECT_EQ(encode(kManifest),
            "spillway striped file, version 1\n"
            "set 00112233445566778899aabbccddeeff\n"
            "member 1 of 2\n"
            "stripe_bytes 65536\n"
            "size_bytes 1000000\n"
            "weights 1 3\n"
            "checksum c0f4172bffdf845d\n");
  const auto back = decode_manifest(encode(kManifest) + std::string(100, '\0'), "/b/data");
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(*back, kManifest);
}

TEST(StripeManifest, AnyBitOfDamageIsSeen) {
  const std::string text = encode(kManifest);
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      ASSERT_NE(reason(damaged), "accepted") << "byte " << i << ", bit " << bit;
    }
    ASSERT_NE(reason(text.substr(0, i)), "accepted") << "cut off at " << i;
  }
}

TEST(StripeManifest, SaysWhatIsWrong) {
  EXPECT_THAT(reason("\x7f"
                     "ELF"),
              HasSubstr("/b/data"));
  EXPECT_THAT(reason("\x7f"
                     "ELF"),
              HasSubstr("is no member of a striped file"));
  EXPECT_THAT(reason("spillway striped file, version 2\n"),
              HasSubstr("has version 2, this program knows version 1 only"));
  EXPECT_THAT(reason(encode(kManifest).substr(0, 60)), HasSubstr("damaged"));
  StripeManifest odd = kManifest;
  odd.stripe_bytes = 1000;
  EXPECT_THAT(reason(encode(odd)), HasSubstr("stripe_bytes is 1000"));
  odd = kManifest;
  odd.member = 2;
  EXPECT_THAT(reason(encode(odd)), HasSubstr("no such member"));
  odd = kManifest;
  odd.weights = std::vector<std::uint32_t>(100, 1);
  EXPECT_THAT(reason(encode(odd)), HasSubstr("damaged"));
}

// Places are computed from offsets below the size: they must not wrap around, into the manifest.
TEST(StripeManifest, ASizeThatNoFileCanHaveIsRefused) {
  const auto reason_of_size = [](std::uint64_t size_bytes) {
    StripeManifest odd = kManifest;
    odd.size_bytes = size_bytes;
    return reason(encode(odd));
  };
  constexpr std::uint64_t kLargest = INT64_MAX;
  EXPECT_THAT(reason_of_size(UINT64_MAX),
              HasSubstr("/b/data: not valid (its manifest: size_bytes is 18446744073709551615, a "
                        "file has at most 9223372036854775807)"));
  EXPECT_THAT(reason_of_size(kLargest + 1), HasSubstr("a file has at most"));
  // A quarter and three quarters of it fit with their heads.
  EXPECT_EQ(reason_of_size(kLargest), "accepted");
  // All of it on one member fits without its head only.
  StripeManifest alone = kManifest;
  alone.weights = {0, 1};
  alone.size_bytes = kLargest;
  EXPECT_THAT(reason(encode(alone)), HasSubstr("member 1 would have 9223372036855824384 bytes"));
  alone.size_bytes = kLargest - kStripeHeadBytes - 65536;
  EXPECT_EQ(reason(encode(alone)), "accepted");
}

class CheckSet : public testing::Test {
 protected:
  std::string reason() const {
    auto fits = check_set(manifests_, paths_);
    return fits ? "fits" : fits.error().message();
  }
  std::vector<StripeManifest> manifests_{kManifest, kManifest};
  std::vector<std::string> paths_{"/a/data", "/b/data"};
  void SetUp() override { manifests_[0].member = 0; }
};

TEST_F(CheckSet, AcceptsTheSetThatWasMade) { EXPECT_EQ(reason(), "fits"); }

TEST_F(CheckSet, NamesTheMemberThatDoesNotFit) {
  std::swap(manifests_[0], manifests_[1]);
  EXPECT_THAT(reason(), HasSubstr("/a/data: not valid (is member 1 of 2 and is given as member 0"));
  std::swap(manifests_[0], manifests_[1]);
  manifests_[1].set = std::string(32, 'f');
  EXPECT_THAT(reason(),
              HasSubstr("/b/data: not valid (belongs to another striped file than /a/data"));
  manifests_[1] = kManifest;
  manifests_[1].stripe_bytes = 4096;
  EXPECT_THAT(reason(),
              HasSubstr("/b/data: not valid (has stripes of 4096 bytes, /a/data of 65536"));
  manifests_[1] = kManifest;
  manifests_[1].size_bytes += 1;
  EXPECT_THAT(reason(), HasSubstr("does not agree with /a/data on size or weights"));
  manifests_[1] = kManifest;
  manifests_[1].weights = {3, 1};
  EXPECT_THAT(reason(), HasSubstr("does not agree with /a/data on size or weights"));
  manifests_.pop_back();
  EXPECT_THAT(reason(),
              HasSubstr("/a/data: not valid (is one of 2 members, but 1 directories are given"));
}

}  // namespace
}  // namespace spillway::aio
