// What loops.cpp is written in: weighted sums and box means of bytes, kStep at a time. On x86-64 it is made of the
// vector operations of lanes.hpp; NEON, which multiplies by a whole weight at once, and plain C++, whose loops
// compilers turn into whatever vectors there are, have shorter ways of their own. Everything is integer arithmetic
// without overflow, so every set gives the same bytes. No function of the standard library may be called from here or
// from loops.cpp: the linker keeps one copy of an inline function, and it could be one that another machine can't run.
//
//   kStep                           bytes that one step of a loop makes
//   Weights::of(a, b)               weights of two taps, ready to be used
//   Sum{}.add(a, b, weights)        adds the weighted bytes at a and at b, kStep of each
//   sum.store(destination)          rounds, cuts to 0..255, stores kStep bytes
//   Bytes                           kStep bytes, widened to 16 bits
//   BoxWeights, box_store           the weighted mean of a box
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(FIREWALL_LOOPS_AVX2)
#define FIREWALL_LANES_AVX2
#include "../lanes.hpp"
#elif defined(FIREWALL_LOOPS_AVX512)
#define FIREWALL_LANES_AVX512
#include "../lanes.hpp"
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

constexpr std::size_t kStep = sizeof(U8);

struct Weights {
  S16 coarse;
  S16 fine;
  static Weights of(std::int32_t first, std::int32_t second) {
    return {fill_pairs(first >> kFineBits, second >> kFineBits), fill_pairs(first & kFineMask, second & kFineMask)};
  }
};

struct Sum {
  S32 coarse[4] = {};
  S32 fine[4] = {fill32(kHalfWeight), fill32(kHalfWeight), fill32(kHalfWeight), fill32(kHalfWeight)};

  void add(const std::uint8_t* a, const std::uint8_t* b, const Weights& weights) {
    const U8 bytes_a = load<U8>(a), bytes_b = load<U8>(b);
    const U8 low = low8(bytes_a, bytes_b), high = high8(bytes_a, bytes_b);
    const S16 pairs[4] = {(S16)low8(low, U8{}), (S16)high8(low, U8{}), (S16)low8(high, U8{}), (S16)high8(high, U8{})};
    for (int part = 0; part < 4; ++part) {
      coarse[part] += dot(pairs[part], weights.coarse);
      fine[part] += dot(pairs[part], weights.fine);
    }
  }

  void store(std::uint8_t* destination) const {
    S32 total[4];
    for (int part = 0; part < 4; ++part) {
      total[part] = ((S32)((U32)coarse[part] << kFineBits) + fine[part]) >> kWeightBits;
    }
    ::store(destination, narrow_unsigned(narrow(total[0], total[1]), narrow(total[2], total[3])));
  }
};

struct Bytes {
  U16 part[2];
  static Bytes none() { return {}; }
  static Bytes load(const std::uint8_t* p) {
    const U8 bytes = ::load<U8>(p);
    return {{(U16)low8(bytes, U8{}), (U16)high8(bytes, U8{})}};
  }
  Bytes operator+(const Bytes& other) const { return {{part[0] + other.part[0], part[1] + other.part[1]}}; }
  Bytes operator-(const Bytes& other) const { return {{part[0] - other.part[0], part[1] - other.part[1]}}; }
};

struct BoxWeights {
  Weights weights;
  explicit BoxWeights(const Box& box)
      : weights(Weights::of(static_cast<std::int32_t>(box.inner), static_cast<std::int32_t>(box.outer))) {}
};

inline S32 box_mean(S16 pairs, const Weights& weights) {
  const U32 coarse = (U32)dot(pairs, weights.coarse) << kFineBits;
  return (S32)((coarse + (U32)dot(pairs, weights.fine) + kHalfBox) >> kBoxBits);
}

inline void box_store(std::uint8_t* destination, const Bytes& inner, const Bytes& outer, const BoxWeights& box) {
  S16 packed[2];
  for (int part = 0; part < 2; ++part) {
    const S16 a = (S16)inner.part[part], b = (S16)outer.part[part];
    packed[part] = narrow(box_mean(low16(a, b), box.weights), box_mean(high16(a, b), box.weights));
  }
  ::store(destination, narrow_unsigned(packed[0], packed[1]));
}

#elif defined(FIREWALL_LOOPS_NEON)

constexpr std::size_t kStep = 16;

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

constexpr std::size_t kStep = 16;

struct Weights {
  std::int32_t first;
  std::int32_t second;
  static Weights of(std::int32_t a, std::int32_t b) { return {a, b}; }
};

struct Sum {
  std::int32_t part[kStep];
  Sum() {
    for (std::size_t i = 0; i < kStep; ++i) part[i] = kHalfWeight;
  }
  void add(const std::uint8_t* a, const std::uint8_t* b, const Weights& weights) {
    for (std::size_t i = 0; i < kStep; ++i) part[i] += weights.first * a[i] + weights.second * b[i];
  }
  void store(std::uint8_t* destination) const {
    for (std::size_t i = 0; i < kStep; ++i) {
      const std::int32_t value = part[i] >> kWeightBits;
      destination[i] = static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
    }
  }
};

struct Bytes {
  std::uint16_t part[kStep];
  static Bytes none() { return {}; }
  static Bytes load(const std::uint8_t* p) {
    Bytes bytes;
    for (std::size_t i = 0; i < kStep; ++i) bytes.part[i] = p[i];
    return bytes;
  }
  Bytes operator+(const Bytes& other) const {
    Bytes sum;
    for (std::size_t i = 0; i < kStep; ++i) sum.part[i] = static_cast<std::uint16_t>(part[i] + other.part[i]);
    return sum;
  }
  Bytes operator-(const Bytes& other) const {
    Bytes difference;
    for (std::size_t i = 0; i < kStep; ++i) difference.part[i] = static_cast<std::uint16_t>(part[i] - other.part[i]);
    return difference;
  }
};

struct BoxWeights {
  Box box;
  explicit BoxWeights(const Box& b) : box(b) {}
};

inline void box_store(std::uint8_t* destination, const Bytes& inner, const Bytes& outer, const BoxWeights& weights) {
  for (std::size_t i = 0; i < kStep; ++i) {
    const std::uint32_t total = weights.box.inner * inner.part[i] + weights.box.outer * outer.part[i] + kHalfBox;
    destination[i] = static_cast<std::uint8_t>(total >> kBoxBits);
  }
}

#endif

}  // namespace
}  // namespace FIREWALL_ISA
}  // namespace firewall
