// The few vector operations that loops.cpp is written in, for the instruction set it is compiled for. Everything is
// integer arithmetic without overflow, so every set gives the same bytes. No function of the standard library may be
// called from here or from loops.cpp: the linker keeps one copy of an inline function, and it could be one that
// another machine can't run.
//
//   kLanes                          bytes that one step of a loop makes
//   Weights::of(a, b)               weights of two taps, ready to be used
//   Sum{}.add(a, b, weights)        adds the weighted bytes at a and at b, kLanes of each
//   sum.store(destination)          rounds, cuts to 0..255, stores kLanes bytes
//   Bytes                           kLanes bytes, widened to 16 bits
//   BoxWeights, box_store           the weighted mean of a box
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(FIREWALL_LOOPS_AVX2) || defined(FIREWALL_LOOPS_AVX512)
#include <immintrin.h>
#elif defined(FIREWALL_LOOPS_NEON)
#include <arm_neon.h>
#endif

#include "kernels.hpp"

namespace firewall {
namespace FIREWALL_ISA {
namespace {

constexpr std::int32_t kHalfWeight = std::int32_t{1} << (kWeightBits - 1);
constexpr std::uint32_t kHalfBox = std::uint32_t{1} << (kBoxBits - 1);

#if defined(FIREWALL_LOOPS_AVX2) || defined(FIREWALL_LOOPS_AVX512)

// x86 multiplies pairs of 16-bit numbers and adds the products in one instruction. A weight is longer than 16 bits, so
// it is used in two parts: weight = coarse * 2^kFineBits + fine.
constexpr int kFineBits = 12;
constexpr std::int32_t kFineMask = (1 << kFineBits) - 1;

inline std::int32_t two_in_one(std::int32_t low, std::int32_t high) {
  return static_cast<std::int32_t>((static_cast<std::uint32_t>(high) << 16) |
                                   (static_cast<std::uint32_t>(low) & 0xffffU));
}

#if defined(FIREWALL_LOOPS_AVX2)

using Vector = __m256i;
inline Vector broadcast(std::int32_t value) { return _mm256_set1_epi32(value); }
inline Vector zero() { return _mm256_setzero_si256(); }
inline Vector zip_low(Vector a, Vector b) { return _mm256_unpacklo_epi16(a, b); }
inline Vector zip_high(Vector a, Vector b) { return _mm256_unpackhi_epi16(a, b); }
inline Vector multiply_pairs(Vector a, Vector b) { return _mm256_madd_epi16(a, b); }
inline Vector add32(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
inline Vector add16(Vector a, Vector b) { return _mm256_add_epi16(a, b); }
inline Vector sub16(Vector a, Vector b) { return _mm256_sub_epi16(a, b); }
template <int bits>
inline Vector shift_left(Vector a) {
  return _mm256_slli_epi32(a, bits);
}
template <int bits>
inline Vector shift_right(Vector a) {
  return _mm256_srai_epi32(a, bits);
}
template <int bits>
inline Vector shift_right_unsigned(Vector a) {
  return _mm256_srli_epi32(a, bits);
}
inline Vector pack32(Vector a, Vector b) { return _mm256_packs_epi32(a, b); }
inline Vector pack16(Vector a, Vector b) { return _mm256_packus_epi16(a, b); }
inline Vector load(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store_bytes(std::uint8_t* p, Vector a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
inline Vector zip_bytes_low(Vector a, Vector b) { return _mm256_unpacklo_epi8(a, b); }
inline Vector zip_bytes_high(Vector a, Vector b) { return _mm256_unpackhi_epi8(a, b); }

#else

using Vector = __m512i;
inline Vector broadcast(std::int32_t value) { return _mm512_set1_epi32(value); }
inline Vector zero() { return _mm512_setzero_si512(); }
inline Vector zip_low(Vector a, Vector b) { return _mm512_unpacklo_epi16(a, b); }
inline Vector zip_high(Vector a, Vector b) { return _mm512_unpackhi_epi16(a, b); }
inline Vector multiply_pairs(Vector a, Vector b) { return _mm512_madd_epi16(a, b); }
inline Vector add32(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
inline Vector add16(Vector a, Vector b) { return _mm512_add_epi16(a, b); }
inline Vector sub16(Vector a, Vector b) { return _mm512_sub_epi16(a, b); }
template <int bits>
inline Vector shift_left(Vector a) {
  return _mm512_slli_epi32(a, bits);
}
template <int bits>
inline Vector shift_right(Vector a) {
  return _mm512_srai_epi32(a, bits);
}
template <int bits>
inline Vector shift_right_unsigned(Vector a) {
  return _mm512_srli_epi32(a, bits);
}
inline Vector pack32(Vector a, Vector b) { return _mm512_packs_epi32(a, b); }
inline Vector pack16(Vector a, Vector b) { return _mm512_packus_epi16(a, b); }
inline Vector load(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
inline void store_bytes(std::uint8_t* p, Vector a) { _mm512_storeu_si512(p, a); }
inline Vector zip_bytes_low(Vector a, Vector b) { return _mm512_unpacklo_epi8(a, b); }
inline Vector zip_bytes_high(Vector a, Vector b) { return _mm512_unpackhi_epi8(a, b); }

#endif

constexpr std::size_t kLanes = sizeof(Vector);

struct Weights {
  std::int32_t coarse;
  std::int32_t fine;
  static Weights of(std::int32_t first, std::int32_t second) {
    return {two_in_one(first >> kFineBits, second >> kFineBits), two_in_one(first & kFineMask, second & kFineMask)};
  }
};

struct Sum {
  Vector coarse[4] = {zero(), zero(), zero(), zero()};
  Vector fine[4] = {broadcast(kHalfWeight), broadcast(kHalfWeight), broadcast(kHalfWeight), broadcast(kHalfWeight)};

  void add(const std::uint8_t* a, const std::uint8_t* b, const Weights& weights) {
    const Vector bytes_a = load(a);
    const Vector bytes_b = load(b);
    const Vector low = zip_bytes_low(bytes_a, bytes_b);
    const Vector high = zip_bytes_high(bytes_a, bytes_b);
    const Vector pairs[4] = {zip_bytes_low(low, zero()), zip_bytes_high(low, zero()), zip_bytes_low(high, zero()),
                             zip_bytes_high(high, zero())};
    const Vector weights_coarse = broadcast(weights.coarse);
    const Vector weights_fine = broadcast(weights.fine);
    for (int part = 0; part < 4; ++part) {
      coarse[part] = add32(coarse[part], multiply_pairs(pairs[part], weights_coarse));
      fine[part] = add32(fine[part], multiply_pairs(pairs[part], weights_fine));
    }
  }

  void store(std::uint8_t* destination) const {
    Vector total[4];
    for (int part = 0; part < 4; ++part) {
      total[part] = shift_right<kWeightBits>(add32(shift_left<kFineBits>(coarse[part]), fine[part]));
    }
    store_bytes(destination, pack16(pack32(total[0], total[1]), pack32(total[2], total[3])));
  }
};

struct Bytes {
  Vector part[2];
  static Bytes none() { return {{zero(), zero()}}; }
  static Bytes load(const std::uint8_t* p) {
    const Vector bytes = FIREWALL_ISA::load(p);
    return {{zip_bytes_low(bytes, zero()), zip_bytes_high(bytes, zero())}};
  }
  Bytes operator+(const Bytes& other) const { return {{add16(part[0], other.part[0]), add16(part[1], other.part[1])}}; }
  Bytes operator-(const Bytes& other) const { return {{sub16(part[0], other.part[0]), sub16(part[1], other.part[1])}}; }
};

struct BoxWeights {
  Vector coarse;
  Vector fine;
  explicit BoxWeights(const Box& box)
      : coarse(broadcast(two_in_one(static_cast<std::int32_t>(box.inner >> kFineBits),
                                    static_cast<std::int32_t>(box.outer >> kFineBits)))),
        fine(broadcast(two_in_one(static_cast<std::int32_t>(box.inner) & kFineMask,
                                  static_cast<std::int32_t>(box.outer) & kFineMask))) {}
};

inline Vector box_mean(Vector pairs, const BoxWeights& weights) {
  const Vector coarse = shift_left<kFineBits>(multiply_pairs(pairs, weights.coarse));
  const Vector fine = add32(multiply_pairs(pairs, weights.fine), broadcast(static_cast<std::int32_t>(kHalfBox)));
  return shift_right_unsigned<kBoxBits>(add32(coarse, fine));
}

inline void box_store(std::uint8_t* destination, const Bytes& inner, const Bytes& outer, const BoxWeights& weights) {
  Vector packed[2];
  for (int part = 0; part < 2; ++part) {
    packed[part] = pack32(box_mean(zip_low(inner.part[part], outer.part[part]), weights),
                          box_mean(zip_high(inner.part[part], outer.part[part]), weights));
  }
  store_bytes(destination, pack16(packed[0], packed[1]));
}

#elif defined(FIREWALL_LOOPS_NEON)

constexpr std::size_t kLanes = 16;

struct Weights {
  std::int32_t first;
  std::int32_t second;
  static Weights of(std::int32_t a, std::int32_t b) { return {a, b}; }
};

struct Sum {
  int32x4_t part[4] = {vdupq_n_s32(kHalfWeight), vdupq_n_s32(kHalfWeight), vdupq_n_s32(kHalfWeight),
                       vdupq_n_s32(kHalfWeight)};

  void add_one(const std::uint8_t* p, std::int32_t weight) {
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes));
    const uint16x8_t high = vmovl_u8(vget_high_u8(bytes));
    part[0] = vmlaq_n_s32(part[0], vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), weight);
    part[1] = vmlaq_n_s32(part[1], vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))), weight);
    part[2] = vmlaq_n_s32(part[2], vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), weight);
    part[3] = vmlaq_n_s32(part[3], vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high))), weight);
  }

  void add(const std::uint8_t* a, const std::uint8_t* b, const Weights& weights) {
    add_one(a, weights.first);
    add_one(b, weights.second);
  }

  void store(std::uint8_t* destination) const {
    int16x4_t narrow[4];
    for (int i = 0; i < 4; ++i) narrow[i] = vqmovn_s32(vshrq_n_s32(part[i], kWeightBits));
    vst1q_u8(destination, vcombine_u8(vqmovun_s16(vcombine_s16(narrow[0], narrow[1])),
                                      vqmovun_s16(vcombine_s16(narrow[2], narrow[3]))));
  }
};

struct Bytes {
  uint16x8_t part[2];
  static Bytes none() { return {{vdupq_n_u16(0), vdupq_n_u16(0)}}; }
  static Bytes load(const std::uint8_t* p) {
    const uint8x16_t bytes = vld1q_u8(p);
    return {{vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes))}};
  }
  Bytes operator+(const Bytes& other) const {
    return {{vaddq_u16(part[0], other.part[0]), vaddq_u16(part[1], other.part[1])}};
  }
  Bytes operator-(const Bytes& other) const {
    return {{vsubq_u16(part[0], other.part[0]), vsubq_u16(part[1], other.part[1])}};
  }
};

struct BoxWeights {
  Box box;
  explicit BoxWeights(const Box& b) : box(b) {}
};

inline uint16x4_t box_mean(uint16x4_t inner, uint16x4_t outer, const Box& box) {
  uint32x4_t total = vdupq_n_u32(kHalfBox);
  total = vmlaq_n_u32(total, vmovl_u16(inner), box.inner);
  total = vmlaq_n_u32(total, vmovl_u16(outer), box.outer);
  return vmovn_u32(vshrq_n_u32(total, kBoxBits));
}

inline void box_store(std::uint8_t* destination, const Bytes& inner, const Bytes& outer, const BoxWeights& weights) {
  uint8x8_t packed[2];
  for (int part = 0; part < 2; ++part) {
    packed[part] = vmovn_u16(
        vcombine_u16(box_mean(vget_low_u16(inner.part[part]), vget_low_u16(outer.part[part]), weights.box),
                     box_mean(vget_high_u16(inner.part[part]), vget_high_u16(outer.part[part]), weights.box)));
  }
  vst1q_u8(destination, vcombine_u8(packed[0], packed[1]));
}

#else  // plain C++, in loops that compilers turn into whatever vectors there are

constexpr std::size_t kLanes = 16;

struct Weights {
  std::int32_t first;
  std::int32_t second;
  static Weights of(std::int32_t a, std::int32_t b) { return {a, b}; }
};

struct Sum {
  std::int32_t part[kLanes];
  Sum() {
    for (std::size_t i = 0; i < kLanes; ++i) part[i] = kHalfWeight;
  }
  void add(const std::uint8_t* a, const std::uint8_t* b, const Weights& weights) {
    for (std::size_t i = 0; i < kLanes; ++i) part[i] += weights.first * a[i] + weights.second * b[i];
  }
  void store(std::uint8_t* destination) const {
    for (std::size_t i = 0; i < kLanes; ++i) {
      const std::int32_t value = part[i] >> kWeightBits;
      destination[i] = static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
    }
  }
};

struct Bytes {
  std::uint16_t part[kLanes];
  static Bytes none() { return {}; }
  static Bytes load(const std::uint8_t* p) {
    Bytes bytes;
    for (std::size_t i = 0; i < kLanes; ++i) bytes.part[i] = p[i];
    return bytes;
  }
  Bytes operator+(const Bytes& other) const {
    Bytes sum;
    for (std::size_t i = 0; i < kLanes; ++i) sum.part[i] = static_cast<std::uint16_t>(part[i] + other.part[i]);
    return sum;
  }
  Bytes operator-(const Bytes& other) const {
    Bytes difference;
    for (std::size_t i = 0; i < kLanes; ++i) difference.part[i] = static_cast<std::uint16_t>(part[i] - other.part[i]);
    return difference;
  }
};

struct BoxWeights {
  Box box;
  explicit BoxWeights(const Box& b) : box(b) {}
};

inline void box_store(std::uint8_t* destination, const Bytes& inner, const Bytes& outer, const BoxWeights& weights) {
  for (std::size_t i = 0; i < kLanes; ++i) {
    const std::uint32_t total = weights.box.inner * inner.part[i] + weights.box.outer * outer.part[i] + kHalfBox;
    destination[i] = static_cast<std::uint8_t>(total >> kBoxBits);
  }
}

#endif

}  // namespace
}  // namespace FIREWALL_ISA
}  // namespace firewall
