#include "spillway/swapper/block_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

namespace spillway::swapper {
namespace {

constexpr std::size_t kLineBytes = BlockHash::kLineBytes;
constexpr std::size_t kLaneBytes = 16;

// In the field of 2^8 elements mod x^8 + x^4 + x^3 + x + 1 (FIPS 197, section 4.2).
constexpr std::uint8_t twice(std::uint8_t a) {
  return static_cast<std::uint8_t>((a << 1) ^ ((a & 0x80) != 0 ? 0x1b : 0));
}

constexpr std::uint8_t product(std::uint8_t a, std::uint8_t b) {
  std::uint8_t sum = 0;
  for (; b != 0; b >>= 1, a = twice(a)) sum ^= (b & 1) != 0 ? a : 0;
  return sum;
}

// SubBytes (section 5.1.1): the inverse, a^254, then an affine map.
constexpr std::array<std::uint8_t, 256> make_substitution() {
  std::array<std::uint8_t, 256> table{};
  for (unsigned i = 0; i < 256; ++i) {
    const auto a = static_cast<std::uint8_t>(i);
    std::uint8_t inverse = 1;
    std::uint8_t power = a;
    for (int bit = 1; bit < 8; ++bit) {  // 254 = 2 + 4 + ... + 128
      power = product(power, power);
      inverse = product(inverse, power);
    }
    unsigned turned = inverse * 0x101u;  // its rotations by 0 to 4 are bits 8 to 15 of the shifts
    table[i] =
        static_cast<std::uint8_t>(0x63 ^ inverse ^ ((turned << 1) >> 8) ^ ((turned << 2) >> 8) ^
                                  ((turned << 3) >> 8) ^ ((turned << 4) >> 8));
  }
  return table;
}

constexpr auto kSubstitution = make_substitution();

// One round on a lane. Its bytes are columns of 4, one after another; row r turns by r columns.
void round_reference(std::uint8_t* lane, const std::byte* bytes) {
  std::uint8_t next[kLaneBytes];
  for (std::size_t column = 0; column < 4; ++column) {
    std::uint8_t a[4];
    for (std::size_t row = 0; row < 4; ++row) {
      a[row] = kSubstitution[lane[(column + row) % 4 * 4 + row]];
    }
    const auto all = static_cast<std::uint8_t>(a[0] ^ a[1] ^ a[2] ^ a[3]);
    for (std::size_t row = 0; row < 4; ++row) {
      const auto pair = static_cast<std::uint8_t>(a[row] ^ a[(row + 1) % 4]);
      next[column * 4 + row] = static_cast<std::uint8_t>(
          a[row] ^ all ^ twice(pair) ^ std::to_integer<std::uint8_t>(bytes[column * 4 + row]));
    }
  }
  std::memcpy(lane, next, kLaneBytes);
}

void add_lines_reference(std::uint8_t* lanes, const std::byte* bytes, std::size_t lines) {
  for (std::size_t i = 0; i < lines * kLineBytes; i += kLaneBytes) {
    round_reference(lanes + i % kLineBytes, bytes + i);
  }
}

#if defined(__x86_64__)

bool cpu_has_aes() { return __builtin_cpu_supports("aes") != 0; }

__attribute__((target("aes"))) void add_lines_by_aes(std::uint8_t* lanes, const std::byte* bytes,
                                                     std::size_t lines) {
  auto* states = reinterpret_cast<__m128i*>(lanes);
  const auto* from = reinterpret_cast<const __m128i*>(bytes);
  __m128i a = states[0], b = states[1], c = states[2], d = states[3];
  for (std::size_t i = 0; i < 4 * lines; i += 4) {
    a = _mm_aesenc_si128(a, _mm_loadu_si128(from + i));
    b = _mm_aesenc_si128(b, _mm_loadu_si128(from + i + 1));
    c = _mm_aesenc_si128(c, _mm_loadu_si128(from + i + 2));
    d = _mm_aesenc_si128(d, _mm_loadu_si128(from + i + 3));
  }
  states[0] = a;
  states[1] = b;
  states[2] = c;
  states[3] = d;
}

#elif defined(__aarch64__)

bool cpu_has_aes() { return (::getauxval(AT_HWCAP) & HWCAP_AES) != 0; }

// AESE adds its operand before SubBytes and ShiftRows, so it gets zeros.
__attribute__((target("+crypto"))) void add_lines_by_aes(std::uint8_t* lanes,
                                                         const std::byte* bytes,
                                                         std::size_t lines) {
  const auto* from = reinterpret_cast<const std::uint8_t*>(bytes);
  const uint8x16_t zero = vdupq_n_u8(0);
  uint8x16x4_t states = {vld1q_u8(lanes), vld1q_u8(lanes + 16), vld1q_u8(lanes + 32),
                         vld1q_u8(lanes + 48)};
  for (std::size_t i = 0; i < lines; ++i, from += kLineBytes) {
    for (int lane = 0; lane < 4; ++lane) {
      states.val[lane] = veorq_u8(vaesmcq_u8(vaeseq_u8(states.val[lane], zero)),
                                  vld1q_u8(from + lane * kLaneBytes));
    }
  }
  for (int lane = 0; lane < 4; ++lane) vst1q_u8(lanes + lane * kLaneBytes, states.val[lane]);
}

#else

bool cpu_has_aes() { return false; }
constexpr auto add_lines_by_aes = add_lines_reference;

#endif

using AddLines = void(std::uint8_t*, const std::byte*, std::size_t);

// The last line is filled up with zeros.
void add_all(AddLines& add_lines, std::uint8_t* lanes, std::span<const std::byte> bytes) {
  const std::size_t whole = bytes.size() / kLineBytes;
  add_lines(lanes, bytes.data(), whole);
  const std::span<const std::byte> rest = bytes.subspan(whole * kLineBytes);
  if (rest.empty()) return;
  std::byte line[kLineBytes] = {};
  std::ranges::copy(rest, line);
  add_lines(lanes, line, 1);
}

}  // namespace

void BlockHash::add(std::span<const std::byte> bytes) noexcept {
  static const bool by_aes = cpu_has_aes();
  add_all(by_aes ? add_lines_by_aes : add_lines_reference, lanes.data(), bytes);
}

void BlockHash::add_reference(std::span<const std::byte> bytes) noexcept {
  add_all(add_lines_reference, lanes.data(), bytes);
}

std::uint64_t BlockHash::value(std::uint64_t size_bytes, std::uint64_t seed) const noexcept {
  std::uint8_t whole[kLineBytes + sizeof size_bytes];
  std::memcpy(whole, lanes.data(), kLineBytes);
  std::memcpy(whole + kLineBytes, &size_bytes, sizeof size_bytes);
  return XXH3_64bits_withSeed(whole, sizeof whole, seed);
}

}  // namespace spillway::swapper
