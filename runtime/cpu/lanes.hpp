// Vectors of kLanes lanes of 128 bits, and the few operations on them that C++ has no operator for. A file defines one
// FIREWALL_LANES_... and is compiled for those instructions. Everything is in an unnamed namespace: were one inline
// function shared by two files, the linker could keep the copy with instructions that a machine doesn't have.
//
// Every operation works inside each lane, so that the same kernel is correct for any number of lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(FIREWALL_LANES_AVX512)
#include <immintrin.h>
#elif defined(FIREWALL_LANES_AVX2)
#include <immintrin.h>
#elif defined(FIREWALL_LANES_SSE4)
#include <smmintrin.h>
#elif defined(FIREWALL_LANES_NEON)
#include <arm_neon.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bytes are regrouped to larger numbers: low byte first");

namespace {

#if defined(FIREWALL_LANES_AVX512)
constexpr int kLanes = 4;
#elif defined(FIREWALL_LANES_AVX2)
constexpr int kLanes = 2;
#else
constexpr int kLanes = 1;
#endif
constexpr int kBytes = 16 * kLanes;

typedef std::uint8_t U8 __attribute__((vector_size(kBytes)));
typedef std::int8_t S8 __attribute__((vector_size(kBytes)));
typedef std::uint16_t U16 __attribute__((vector_size(kBytes)));
typedef std::int16_t S16 __attribute__((vector_size(kBytes)));
typedef std::uint32_t U32 __attribute__((vector_size(kBytes)));
typedef std::int32_t S32 __attribute__((vector_size(kBytes)));
typedef std::uint64_t U64 __attribute__((vector_size(kBytes)));
typedef float F32 __attribute__((vector_size(kBytes)));

template <typename V>
inline V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

template <typename V>
inline void store(void* to, V v) {
  __builtin_memcpy(to, &v, sizeof v);
}

inline S16 fill16(int value) { return static_cast<std::int16_t>(value) - S16{}; }
inline S32 fill32(std::int32_t value) { return value - S32{}; }

// Two 16-bit numbers, repeated: what `dot` multiplies pairs with.
inline S16 fill_pairs(int first, int second) {
  const auto low = static_cast<std::uint32_t>(first) & 0xffffu;
  return (S16)((static_cast<std::uint32_t>(second) << 16 | low) - U32{});
}

#if defined(FIREWALL_LANES_AVX512)

inline U8 repeat(const void* from) {
  return (U8)_mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(from)));
}
inline S32 dot(S16 a, S16 b) { return (S32)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
inline S16 dot_bytes(U8 a, U8 b) { return (S16)_mm512_maddubs_epi16((__m512i)a, (__m512i)b); }
inline S16 add_neighbours(S8 a) { return (S16)_mm512_maddubs_epi16(_mm512_set1_epi8(1), (__m512i)a); }
inline S16 multiply_round(S16 a, S16 b) { return (S16)_mm512_mulhrs_epi16((__m512i)a, (__m512i)b); }
inline U16 multiply_high(U16 a, U16 b) { return (U16)_mm512_mulhi_epu16((__m512i)a, (__m512i)b); }
inline S16 narrow(S32 a, S32 b) { return (S16)_mm512_packs_epi32((__m512i)a, (__m512i)b); }
inline S8 narrow_signed(S16 a, S16 b) { return (S8)_mm512_packs_epi16((__m512i)a, (__m512i)b); }
inline U8 narrow_unsigned(S16 a, S16 b) { return (U8)_mm512_packus_epi16((__m512i)a, (__m512i)b); }
inline U8 shuffle(U8 a, U8 places) { return (U8)_mm512_shuffle_epi8((__m512i)a, (__m512i)places); }
inline U8 low8(U8 a, U8 b) { return (U8)_mm512_unpacklo_epi8((__m512i)a, (__m512i)b); }
inline U8 high8(U8 a, U8 b) { return (U8)_mm512_unpackhi_epi8((__m512i)a, (__m512i)b); }
inline S16 low16(S16 a, S16 b) { return (S16)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
inline S16 high16(S16 a, S16 b) { return (S16)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
inline S32 low32(S32 a, S32 b) { return (S32)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b); }
inline S32 high32(S32 a, S32 b) { return (S32)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b); }
inline U64 low64(U64 a, U64 b) { return (U64)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b); }
inline U64 high64(U64 a, U64 b) { return (U64)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b); }
inline S16 high_halves(S32 even, S32 odd) {
  return (S16)_mm512_mask_blend_epi16(0xaaaaaaaau, (__m512i)((U32)even >> 16), (__m512i)odd);
}
inline S16 widen(const std::int8_t* from) {
  return (S16)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline S16 widen(const std::uint8_t* from) {
  return (S16)_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline F32 widen_float(const std::uint8_t* from) {
  return (F32)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline void store_half(std::uint16_t* to, F32 v) {
  const __m256i half = _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half);
}
// 16 bytes for each lane, the lanes `step` bytes apart.
inline U8 gather(const void* from, std::ptrdiff_t step) {
  const auto* p = static_cast<const char*>(from);
  __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + step)), 1);
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2 * step)), 2);
  return (U8)_mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 3 * step)), 3);
}
template <int kStep>
inline void scatter(void* to, U8 v) {
  auto* p = static_cast<char*>(to);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_castsi512_si128((__m512i)v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + kStep), _mm512_extracti32x4_epi32((__m512i)v, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 2 * kStep), _mm512_extracti32x4_epi32((__m512i)v, 2));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 3 * kStep), _mm512_extracti32x4_epi32((__m512i)v, 3));
}
// The low eight bytes of each lane to `low`, the high eight to `high`, without gaps.
inline void split(void* low, void* high, U8 v) {
  const __m512i w = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), (__m512i)v);
  _mm256_storeu_si256(static_cast<__m256i*>(low), _mm512_castsi512_si256(w));
  _mm256_storeu_si256(static_cast<__m256i*>(high), _mm512_extracti64x4_epi64(w, 1));
}

#elif defined(FIREWALL_LANES_AVX2)

inline U8 repeat(const void* from) {
  return (U8)_mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(from)));
}
inline S32 dot(S16 a, S16 b) { return (S32)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
inline S16 dot_bytes(U8 a, U8 b) { return (S16)_mm256_maddubs_epi16((__m256i)a, (__m256i)b); }
inline S16 add_neighbours(S8 a) { return (S16)_mm256_maddubs_epi16(_mm256_set1_epi8(1), (__m256i)a); }
inline S16 multiply_round(S16 a, S16 b) { return (S16)_mm256_mulhrs_epi16((__m256i)a, (__m256i)b); }
inline U16 multiply_high(U16 a, U16 b) { return (U16)_mm256_mulhi_epu16((__m256i)a, (__m256i)b); }
inline S16 narrow(S32 a, S32 b) { return (S16)_mm256_packs_epi32((__m256i)a, (__m256i)b); }
inline S8 narrow_signed(S16 a, S16 b) { return (S8)_mm256_packs_epi16((__m256i)a, (__m256i)b); }
inline U8 narrow_unsigned(S16 a, S16 b) { return (U8)_mm256_packus_epi16((__m256i)a, (__m256i)b); }
inline U8 shuffle(U8 a, U8 places) { return (U8)_mm256_shuffle_epi8((__m256i)a, (__m256i)places); }
inline U8 low8(U8 a, U8 b) { return (U8)_mm256_unpacklo_epi8((__m256i)a, (__m256i)b); }
inline U8 high8(U8 a, U8 b) { return (U8)_mm256_unpackhi_epi8((__m256i)a, (__m256i)b); }
inline S16 low16(S16 a, S16 b) { return (S16)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
inline S16 high16(S16 a, S16 b) { return (S16)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
inline S32 low32(S32 a, S32 b) { return (S32)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b); }
inline S32 high32(S32 a, S32 b) { return (S32)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b); }
inline U64 low64(U64 a, U64 b) { return (U64)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
inline U64 high64(U64 a, U64 b) { return (U64)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
inline S16 high_halves(S32 even, S32 odd) {
  return (S16)_mm256_blend_epi16((__m256i)((U32)even >> 16), (__m256i)odd, 0xaa);
}
inline S16 widen(const std::int8_t* from) {
  return (S16)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline S16 widen(const std::uint8_t* from) {
  return (S16)_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline F32 widen_float(const std::uint8_t* from) {
  return (F32)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
inline void store_half(std::uint16_t* to, F32 v) {
  const __m128i half = _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), half);
}
inline U8 gather(const void* from, std::ptrdiff_t step) {
  const auto* p = static_cast<const char*>(from);
  const __m256i v = _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return (U8)_mm256_inserti128_si256(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + step)), 1);
}
template <int kStep>
inline void scatter(void* to, U8 v) {
  auto* p = static_cast<char*>(to);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128((__m256i)v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + kStep), _mm256_extracti128_si256((__m256i)v, 1));
}
inline void split(void* low, void* high, U8 v) {
  const __m256i w = _mm256_permute4x64_epi64((__m256i)v, 0xd8);
  _mm_storeu_si128(static_cast<__m128i*>(low), _mm256_castsi256_si128(w));
  _mm_storeu_si128(static_cast<__m128i*>(high), _mm256_extracti128_si256(w, 1));
}

#else  // one lane

#if defined(FIREWALL_LANES_NEON)

inline S32 dot(S16 a, S16 b) {
  const int32x4_t low = vmull_s16(vget_low_s16((int16x8_t)a), vget_low_s16((int16x8_t)b));
  return (S32)vpaddq_s32(low, vmull_high_s16((int16x8_t)a, (int16x8_t)b));
}
inline S16 dot_bytes(U8 a, U8 b) {
  const uint16x8_t low = vmull_u8(vget_low_u8((uint8x16_t)a), vget_low_u8((uint8x16_t)b));
  return (S16)vpaddq_u16(low, vmull_high_u8((uint8x16_t)a, (uint8x16_t)b));
}
inline S16 add_neighbours(S8 a) { return (S16)vpaddlq_s8((int8x16_t)a); }
inline S16 multiply_round(S16 a, S16 b) { return (S16)vqrdmulhq_s16((int16x8_t)a, (int16x8_t)b); }
inline U16 multiply_high(U16 a, U16 b) {
  const uint32x4_t low = vmull_u16(vget_low_u16((uint16x8_t)a), vget_low_u16((uint16x8_t)b));
  const uint32x4_t high = vmull_high_u16((uint16x8_t)a, (uint16x8_t)b);
  return (U16)vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
}
inline S16 narrow(S32 a, S32 b) { return (S16)vqmovn_high_s32(vqmovn_s32((int32x4_t)a), (int32x4_t)b); }
inline S8 narrow_signed(S16 a, S16 b) { return (S8)vqmovn_high_s16(vqmovn_s16((int16x8_t)a), (int16x8_t)b); }
inline U8 narrow_unsigned(S16 a, S16 b) { return (U8)vqmovun_high_s16(vqmovun_s16((int16x8_t)a), (int16x8_t)b); }
inline U8 shuffle(U8 a, U8 places) { return (U8)vqtbl1q_u8((uint8x16_t)a, (uint8x16_t)places); }
inline U8 low8(U8 a, U8 b) { return (U8)vzip1q_u8((uint8x16_t)a, (uint8x16_t)b); }
inline U8 high8(U8 a, U8 b) { return (U8)vzip2q_u8((uint8x16_t)a, (uint8x16_t)b); }
inline S16 low16(S16 a, S16 b) { return (S16)vzip1q_s16((int16x8_t)a, (int16x8_t)b); }
inline S16 high16(S16 a, S16 b) { return (S16)vzip2q_s16((int16x8_t)a, (int16x8_t)b); }
inline S32 low32(S32 a, S32 b) { return (S32)vzip1q_s32((int32x4_t)a, (int32x4_t)b); }
inline S32 high32(S32 a, S32 b) { return (S32)vzip2q_s32((int32x4_t)a, (int32x4_t)b); }
inline U64 low64(U64 a, U64 b) { return (U64)vzip1q_u64((uint64x2_t)a, (uint64x2_t)b); }
inline U64 high64(U64 a, U64 b) { return (U64)vzip2q_u64((uint64x2_t)a, (uint64x2_t)b); }
inline S16 high_halves(S32 even, S32 odd) {
  return (S16)vtrn2q_s16(vreinterpretq_s16_s32((int32x4_t)even), vreinterpretq_s16_s32((int32x4_t)odd));
}
inline S16 widen(const std::int8_t* from) { return (S16)vmovl_s8(vld1_s8(from)); }
inline S16 widen(const std::uint8_t* from) { return (S16)vmovl_u8(vld1_u8(from)); }
inline F32 widen_float(const std::uint8_t* from) {
  std::uint32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  const uint16x8_t words = vmovl_u8(vcreate_u8(four));
  return (F32)vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)));
}
inline void store_half(std::uint16_t* to, F32 v) { vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v))); }

#elif defined(FIREWALL_LANES_SSE4)

inline S32 dot(S16 a, S16 b) { return (S32)_mm_madd_epi16((__m128i)a, (__m128i)b); }
inline S16 dot_bytes(U8 a, U8 b) { return (S16)_mm_maddubs_epi16((__m128i)a, (__m128i)b); }
inline S16 add_neighbours(S8 a) { return (S16)_mm_maddubs_epi16(_mm_set1_epi8(1), (__m128i)a); }
inline S16 multiply_round(S16 a, S16 b) { return (S16)_mm_mulhrs_epi16((__m128i)a, (__m128i)b); }
inline U16 multiply_high(U16 a, U16 b) { return (U16)_mm_mulhi_epu16((__m128i)a, (__m128i)b); }
inline S16 narrow(S32 a, S32 b) { return (S16)_mm_packs_epi32((__m128i)a, (__m128i)b); }
inline S8 narrow_signed(S16 a, S16 b) { return (S8)_mm_packs_epi16((__m128i)a, (__m128i)b); }
inline U8 narrow_unsigned(S16 a, S16 b) { return (U8)_mm_packus_epi16((__m128i)a, (__m128i)b); }
inline U8 shuffle(U8 a, U8 places) { return (U8)_mm_shuffle_epi8((__m128i)a, (__m128i)places); }
inline U8 low8(U8 a, U8 b) { return (U8)_mm_unpacklo_epi8((__m128i)a, (__m128i)b); }
inline U8 high8(U8 a, U8 b) { return (U8)_mm_unpackhi_epi8((__m128i)a, (__m128i)b); }
inline S16 low16(S16 a, S16 b) { return (S16)_mm_unpacklo_epi16((__m128i)a, (__m128i)b); }
inline S16 high16(S16 a, S16 b) { return (S16)_mm_unpackhi_epi16((__m128i)a, (__m128i)b); }
inline S32 low32(S32 a, S32 b) { return (S32)_mm_unpacklo_epi32((__m128i)a, (__m128i)b); }
inline S32 high32(S32 a, S32 b) { return (S32)_mm_unpackhi_epi32((__m128i)a, (__m128i)b); }
inline U64 low64(U64 a, U64 b) { return (U64)_mm_unpacklo_epi64((__m128i)a, (__m128i)b); }
inline U64 high64(U64 a, U64 b) { return (U64)_mm_unpackhi_epi64((__m128i)a, (__m128i)b); }
inline S16 high_halves(S32 even, S32 odd) {
  return (S16)_mm_blend_epi16((__m128i)((U32)even >> 16), (__m128i)odd, 0xaa);
}
inline S16 widen(const std::int8_t* from) {
  return (S16)_mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
inline S16 widen(const std::uint8_t* from) {
  return (S16)_mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
inline F32 widen_float(const std::uint8_t* from) {
  int four;
  __builtin_memcpy(&four, from, sizeof four);
  return (F32)_mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}

#else

// Vectors of twice the size, of which compilers make two; to convert and to multiply is all they are for.
typedef std::int32_t Wide32 __attribute__((vector_size(32)));
typedef std::uint32_t WideU32 __attribute__((vector_size(32)));

// Elements of a and b by number.
#if defined(__clang__)
#define FIREWALL_PICK(V, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FIREWALL_PICK(V, a, b, ...) __builtin_shuffle(a, b, V{__VA_ARGS__})
#endif

inline S32 dot(S16 a, S16 b) {
  const Wide32 products = __builtin_convertvector(a, Wide32) * __builtin_convertvector(b, Wide32);
  S32 half[2];
  __builtin_memcpy(half, &products, sizeof half);
  return FIREWALL_PICK(S32, half[0], half[1], 0, 2, 4, 6) + FIREWALL_PICK(S32, half[0], half[1], 1, 3, 5, 7);
}
inline S16 dot_bytes(U8 a, U8 b) {
  const U16 even = ((U16)a & 0xff) * ((U16)b & 0xff);
  return (S16)(even + ((U16)a >> 8) * ((U16)b >> 8));
}
inline S16 add_neighbours(S8 a) { return ((S16)((U16)a << 8) >> 8) + ((S16)a >> 8); }
inline S16 multiply_round(S16 a, S16 b) {
  const Wide32 products = __builtin_convertvector(a, Wide32) * __builtin_convertvector(b, Wide32);
  return __builtin_convertvector((products + 16384) >> 15, S16);
}
inline U16 multiply_high(U16 a, U16 b) {
  const WideU32 products = __builtin_convertvector(a, WideU32) * __builtin_convertvector(b, WideU32);
  return __builtin_convertvector(products >> 16, U16);
}
template <typename V, typename T>
inline V cut(V v, T low, T high) {
  v = v < low ? V{} + low : v;
  return v > high ? V{} + high : v;
}
inline S16 narrow(S32 a, S32 b) {
  a = cut(a, -32768, 32767);
  b = cut(b, -32768, 32767);
  return FIREWALL_PICK(S16, (S16)a, (S16)b, 0, 2, 4, 6, 8, 10, 12, 14);
}
template <typename V>
inline V low_bytes(S16 a, S16 b, std::int16_t low, std::int16_t high) {
  a = cut(a, low, high);
  b = cut(b, low, high);
  return FIREWALL_PICK(V, (V)a, (V)b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
inline S8 narrow_signed(S16 a, S16 b) { return low_bytes<S8>(a, b, -128, 127); }
inline U8 narrow_unsigned(S16 a, S16 b) { return low_bytes<U8>(a, b, 0, 255); }
inline U8 shuffle(U8 a, U8 places) {
#if defined(__clang__)
  U8 v{};
  for (int i = 0; i < 16; ++i) v[i] = static_cast<std::uint8_t>(places[i] < 16 ? a[places[i] % 16] : 0);
  return v;
#else
  return __builtin_shuffle(a, places) & (U8)(places < 16);
#endif
}
inline U8 low8(U8 a, U8 b) { return FIREWALL_PICK(U8, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
inline U8 high8(U8 a, U8 b) {
  return FIREWALL_PICK(U8, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
inline S16 low16(S16 a, S16 b) { return FIREWALL_PICK(S16, a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline S16 high16(S16 a, S16 b) { return FIREWALL_PICK(S16, a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
inline S32 low32(S32 a, S32 b) { return FIREWALL_PICK(S32, a, b, 0, 4, 1, 5); }
inline S32 high32(S32 a, S32 b) { return FIREWALL_PICK(S32, a, b, 2, 6, 3, 7); }
inline U64 low64(U64 a, U64 b) { return FIREWALL_PICK(U64, a, b, 0, 2); }
inline U64 high64(U64 a, U64 b) { return FIREWALL_PICK(U64, a, b, 1, 3); }
#undef FIREWALL_PICK
inline S16 high_halves(S32 even, S32 odd) { return (S16)((U32)even >> 16 | ((U32)odd & 0xffff0000u)); }
template <typename Byte>
inline S16 widen(const Byte* from) {
  typedef Byte Eight __attribute__((vector_size(8)));
  return __builtin_convertvector(load<Eight>(from), S16);
}
inline F32 widen_float(const std::uint8_t* from) {
  F32 v;
  for (int i = 0; i < 4; ++i) v[i] = from[i];
  return v;
}
#endif

#if !defined(FIREWALL_LANES_NEON)
// binary32 to binary16, to the nearest, ties to even.
inline std::uint16_t half(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  std::uint32_t result;
  if (bits > 0x7f800000u) {
    result = 0x7e00u | (bits >> 13 & 0x3ffu);  // not a number: quiet, as the vector instructions answer
  } else if (bits >= 0x477ff000u) {
    result = 0x7c00u;  // infinite, or rounded to it
  } else if (bits >= 0x38800000u) {
    const std::uint32_t rebiased = bits - (112u << 23);  // 112 is the difference of the biases, 127 - 15
    result = (rebiased + 0xfffu + (rebiased >> 13 & 1u)) >> 13;
  } else if (bits > 0x33000000u) {
    const int shift = 126 - static_cast<int>(bits >> 23);  // subnormal: the unit is 2^-24
    const std::uint32_t mantissa = (bits & 0x7fffffu) | 0x800000u;
    const std::uint32_t whole = mantissa >> shift;
    const std::uint32_t rest = mantissa & ((1u << shift) - 1u);
    const std::uint32_t tie = 1u << (shift - 1);
    result = whole + (rest > tie || (rest == tie && (whole & 1u) != 0) ? 1u : 0u);
  } else {
    result = 0;
  }
  return static_cast<std::uint16_t>(sign | result);
}
inline void store_half(std::uint16_t* to, F32 v) {
  for (int i = 0; i < 4; ++i) to[i] = half(v[i]);
}
#endif

inline U8 repeat(const void* from) { return load<U8>(from); }
inline U8 gather(const void* from, std::ptrdiff_t) { return load<U8>(from); }
template <int kStep>
inline void scatter(void* to, U8 v) {
  store(to, v);
}
inline void split(void* low, void* high, U8 v) {
  __builtin_memcpy(low, &v, 8);
  __builtin_memcpy(high, reinterpret_cast<const char*>(&v) + 8, 8);
}

#endif

// The low eight bytes of each lane to `low`, the high eight to `high`, the lanes kStep bytes apart.
template <int kStep>
inline void scatter_halves(void* low, void* high, U8 v) {
  auto* a = static_cast<char*>(low);
  auto* b = static_cast<char*>(high);
  const U64 w = (U64)v;
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::uint64_t first = w[2 * lane], second = w[2 * lane + 1];
    __builtin_memcpy(a + lane * kStep, &first, 8);
    __builtin_memcpy(b + lane * kStep, &second, 8);
  }
}

}  // namespace
