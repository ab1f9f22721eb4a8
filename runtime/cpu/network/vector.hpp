// Sixteen floats, in whatever registers there are. No function of the standard library may be called from here or from
// loops.cpp but fma where there is nothing better: see kernels/vector.hpp.
#pragma once

#if defined(FIREWALL_NETWORK_AVX512) || defined(FIREWALL_NETWORK_AVX2)
#include <immintrin.h>
#elif defined(FIREWALL_NETWORK_NEON)
#include <arm_neon.h>
#endif

namespace firewall {
namespace FIREWALL_ISA {
namespace {

#if defined(FIREWALL_NETWORK_AVX512)

constexpr int kColumns = 4;
struct Lanes {
  __m512 part;
};
inline Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, const Lanes& a) { _mm512_storeu_ps(p, a.part); }
inline Lanes fill(float x) { return {_mm512_set1_ps(x)}; }
inline Lanes add(const Lanes& a, const Lanes& b) { return {_mm512_add_ps(a.part, b.part)}; }
inline Lanes subtract(const Lanes& a, const Lanes& b) { return {_mm512_sub_ps(a.part, b.part)}; }
// a * b + c, rounded once.
inline Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) {
  return {_mm512_fmadd_ps(a.part, b.part, c.part)};
}
// NaN stays: x86 gives the second where one is.
inline Lanes rectify(const Lanes& a) { return {_mm512_max_ps(_mm512_setzero_ps(), a.part)}; }

#elif defined(FIREWALL_NETWORK_AVX2)

constexpr int kColumns = 1;
struct Lanes {
  __m256 part[2];
};
inline Lanes load(const float* p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
inline void store(float* p, const Lanes& a) {
  _mm256_storeu_ps(p, a.part[0]);
  _mm256_storeu_ps(p + 8, a.part[1]);
}
inline Lanes fill(float x) { return {{_mm256_set1_ps(x), _mm256_set1_ps(x)}}; }
inline Lanes add(const Lanes& a, const Lanes& b) {
  return {{_mm256_add_ps(a.part[0], b.part[0]), _mm256_add_ps(a.part[1], b.part[1])}};
}
inline Lanes subtract(const Lanes& a, const Lanes& b) {
  return {{_mm256_sub_ps(a.part[0], b.part[0]), _mm256_sub_ps(a.part[1], b.part[1])}};
}
inline Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) {
  return {{_mm256_fmadd_ps(a.part[0], b.part[0], c.part[0]), _mm256_fmadd_ps(a.part[1], b.part[1], c.part[1])}};
}
inline Lanes rectify(const Lanes& a) {
  const __m256 zero = _mm256_setzero_ps();
  return {{_mm256_max_ps(zero, a.part[0]), _mm256_max_ps(zero, a.part[1])}};
}

#elif defined(FIREWALL_NETWORK_NEON)

constexpr int kColumns = 1;
struct Lanes {
  float32x4_t part[4];
};
template <typename Make>
inline Lanes each(const Make& make) {
  return {{make(0), make(1), make(2), make(3)}};
}
inline Lanes load(const float* p) {
  return each([=](int i) { return vld1q_f32(p + 4 * i); });
}
inline void store(float* p, const Lanes& a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.part[i]);
}
inline Lanes fill(float x) {
  return each([=](int) { return vdupq_n_f32(x); });
}
inline Lanes add(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
}
inline Lanes subtract(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
}
inline Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) {
  return each([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
}
inline Lanes rectify(const Lanes& a) {
  return each([&](int i) { return vmaxq_f32(vdupq_n_f32(0), a.part[i]); });
}

#else

constexpr int kColumns = 1;
struct Lanes {
  float part[16];
};
template <typename Make>
inline Lanes each(const Make& make) {
  Lanes made;
  for (int i = 0; i < 16; ++i) made.part[i] = make(i);
  return made;
}
inline Lanes load(const float* p) {
  return each([=](int i) { return p[i]; });
}
inline void store(float* p, const Lanes& a) {
  for (int i = 0; i < 16; ++i) p[i] = a.part[i];
}
inline Lanes fill(float x) {
  return each([=](int) { return x; });
}
inline Lanes add(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.part[i] + b.part[i]; });
}
inline Lanes subtract(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.part[i] - b.part[i]; });
}
inline Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) {
  return each([&](int i) { return __builtin_fmaf(a.part[i], b.part[i], c.part[i]); });
}
inline Lanes rectify(const Lanes& a) {
  return each([&](int i) { return a.part[i] < 0 ? 0.0F : a.part[i]; });
}

#endif

}  // namespace
}  // namespace FIREWALL_ISA
}  // namespace firewall
