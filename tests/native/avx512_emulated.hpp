// 512-bit kernels on machines without AVX-512: the same sources, with each intrinsic they use written out here after
// Intel's description. What this can't show is that the compiler's own intrinsics do what they are described to do. A
// file that includes this, and then the kernel, is compiled for AVX2.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

template <typename To, typename From>
To as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <typename T>
struct Elements {
  T at[64 / sizeof(T)];
};

template <typename T>
Elements<T> in(__m512i v) {
  return as<Elements<T>>(v);
}

// to[i] = compute(lane of i, place in its lane) for each element.
template <typename T, typename Compute>
__m512i each(const Compute& compute) {
  constexpr int n = 16 / static_cast<int>(sizeof(T));
  Elements<T> to;
  for (int i = 0; i < 4 * n; ++i) to.at[i] = static_cast<T>(compute(i / n * n, i % n));
  return as<__m512i>(to);
}

template <typename To, typename From>
__m512i packed(__m512i a, __m512i b, int low, int high) {
  const auto x = in<From>(a), y = in<From>(b);
  constexpr int n = 16 / static_cast<int>(sizeof(From));
  return each<To>([&](int lane, int i) {
    const int value = i < n ? x.at[lane / 2 + i] : y.at[lane / 2 + i - n];
    return value < low ? low : value > high ? high : value;
  });
}

template <typename T>
__m512i unpacked(__m512i a, __m512i b, bool upper) {
  const auto x = in<T>(a), y = in<T>(b);
  constexpr int n = 16 / static_cast<int>(sizeof(T));
  return each<T>([&](int lane, int i) {
    const int from = lane + i / 2 + (upper ? n / 2 : 0);
    return i % 2 == 0 ? x.at[from] : y.at[from];
  });
}

__m512i emulated_broadcast(__m128i a) {
  __m128i all[4] = {a, a, a, a};
  return as<__m512i>(all);
}
__m512i emulated_madd(__m512i a, __m512i b) {
  const auto x = in<std::int16_t>(a), y = in<std::int16_t>(b);
  return each<std::int32_t>([&](int lane, int i) {
    const int at = 2 * (lane + i);
    return x.at[at] * y.at[at] + x.at[at + 1] * y.at[at + 1];
  });
}
__m512i emulated_maddubs(__m512i a, __m512i b) {
  const auto x = in<std::uint8_t>(a);
  const auto y = in<std::int8_t>(b);
  return each<std::int16_t>([&](int lane, int i) {
    const int at = 2 * (lane + i);
    const int sum = x.at[at] * y.at[at] + x.at[at + 1] * y.at[at + 1];
    return sum < -32768 ? -32768 : sum > 32767 ? 32767 : sum;
  });
}
__m512i emulated_ones() {
  return each<std::int8_t>([](int, int) { return 1; });
}
__m512i emulated_mulhrs(__m512i a, __m512i b) {
  const auto x = in<std::int16_t>(a), y = in<std::int16_t>(b);
  return each<std::int16_t>([&](int lane, int i) { return ((x.at[lane + i] * y.at[lane + i] >> 14) + 1) >> 1; });
}
__m512i emulated_mulhi(__m512i a, __m512i b) {
  const auto x = in<std::uint16_t>(a), y = in<std::uint16_t>(b);
  return each<std::uint16_t>(
      [&](int lane, int i) { return static_cast<std::uint32_t>(x.at[lane + i]) * y.at[lane + i] >> 16; });
}
__m512i emulated_shuffle(__m512i a, __m512i b) {
  const auto x = in<std::uint8_t>(a), y = in<std::uint8_t>(b);
  return each<std::uint8_t>([&](int lane, int i) {
    const int place = y.at[lane + i];
    return place >= 128 ? 0 : x.at[lane + place % 16];
  });
}
__m512i emulated_blend(std::uint32_t mask, __m512i a, __m512i b) {
  const auto x = in<std::uint16_t>(a), y = in<std::uint16_t>(b);
  return each<std::uint16_t>([&](int lane, int i) { return mask >> (lane + i) & 1 ? y.at[lane + i] : x.at[lane + i]; });
}
template <typename From, typename To>
__m512i widened(const void* from) {
  From x[64 / sizeof(To)];
  std::memcpy(x, from, sizeof x);
  return each<To>([&](int lane, int i) { return x[lane + i]; });
}
__m512i emulated_insert(__m512i a, __m128i b, int lane) {
  std::memcpy(reinterpret_cast<char*>(&a) + 16 * lane, &b, 16);
  return a;
}
template <typename Part>
Part emulated_extract(__m512i a, int part) {
  Part to;
  std::memcpy(&to, reinterpret_cast<const char*>(&a) + static_cast<std::size_t>(part) * sizeof to, sizeof to);
  return to;
}
__m512i emulated_permute(__m512i places, __m512i a) {
  const auto x = in<std::uint64_t>(a), y = in<std::uint64_t>(places);
  return each<std::uint64_t>([&](int lane, int i) { return x.at[y.at[lane + i] % 8]; });
}
__m512i emulated_list(long long a, long long b, long long c, long long d, long long e, long long f, long long g,
                      long long h) {
  const long long all[8] = {a, b, c, d, e, f, g, h};
  return as<__m512i>(all);
}
__m512 emulated_floats(__m512i a) {
  const auto x = in<std::int32_t>(a);
  float to[16];
  for (int i = 0; i < 16; ++i) to[i] = static_cast<float>(x.at[i]);
  return as<__m512>(to);
}
__m256i emulated_halves(__m512 a) {
  __m256 parts[2];
  std::memcpy(parts, &a, sizeof parts);
  const __m128i halves[2] = {_mm256_cvtps_ph(parts[0], 0), _mm256_cvtps_ph(parts[1], 0)};
  return as<__m256i>(halves);
}

}  // namespace

#define _mm512_broadcast_i32x4 emulated_broadcast
#define _mm512_madd_epi16 emulated_madd
#define _mm512_maddubs_epi16 emulated_maddubs
#define _mm512_set1_epi8(one) emulated_ones()
#define _mm512_mulhrs_epi16 emulated_mulhrs
#define _mm512_mulhi_epu16 emulated_mulhi
#define _mm512_packs_epi32(a, b) packed<std::int16_t, std::int32_t>(a, b, -32768, 32767)
#define _mm512_packs_epi16(a, b) packed<std::int8_t, std::int16_t>(a, b, -128, 127)
#define _mm512_packus_epi16(a, b) packed<std::uint8_t, std::int16_t>(a, b, 0, 255)
#define _mm512_shuffle_epi8 emulated_shuffle
#define _mm512_unpacklo_epi8(a, b) unpacked<std::uint8_t>(a, b, false)
#define _mm512_unpackhi_epi8(a, b) unpacked<std::uint8_t>(a, b, true)
#define _mm512_unpacklo_epi16(a, b) unpacked<std::uint16_t>(a, b, false)
#define _mm512_unpackhi_epi16(a, b) unpacked<std::uint16_t>(a, b, true)
#define _mm512_unpacklo_epi32(a, b) unpacked<std::uint32_t>(a, b, false)
#define _mm512_unpackhi_epi32(a, b) unpacked<std::uint32_t>(a, b, true)
#define _mm512_unpacklo_epi64(a, b) unpacked<std::uint64_t>(a, b, false)
#define _mm512_unpackhi_epi64(a, b) unpacked<std::uint64_t>(a, b, true)
#define _mm512_mask_blend_epi16 emulated_blend
#define _mm512_cvtepi8_epi16(a) [](__m256i v) { return widened<std::int8_t, std::int16_t>(&v); }(a)
#define _mm512_cvtepu8_epi16(a) [](__m256i v) { return widened<std::uint8_t, std::int16_t>(&v); }(a)
#define _mm512_cvtepu8_epi32(a) [](__m128i v) { return widened<std::uint8_t, std::int32_t>(&v); }(a)
#define _mm512_cvtepi32_ps emulated_floats
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(v, mode) emulated_halves(v)
#undef _mm512_inserti32x4
#define _mm512_inserti32x4 emulated_insert
#undef _mm512_extracti32x4_epi32
#define _mm512_extracti32x4_epi32(v, part) emulated_extract<__m128i>(v, part)
#undef _mm512_extracti64x4_epi64
#define _mm512_extracti64x4_epi64(v, part) emulated_extract<__m256i>(v, part)
#define _mm512_permutexvar_epi64 emulated_permute
#undef _mm512_setr_epi64
#define _mm512_setr_epi64 emulated_list
#define _mm512_castsi128_si512(v) emulated_insert(__m512i{}, v, 0)
#define _mm512_castsi512_si128(v) emulated_extract<__m128i>(v, 0)
#define _mm512_castsi512_si256(v) emulated_extract<__m256i>(v, 0)
