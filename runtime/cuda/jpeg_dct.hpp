// The DCT of libjpeg's slow integer path in both directions, one dimension at a time, and quantisation: the integers
// of cpu/jpeg/dct.hpp without its vectors.
#pragma once

#include "block.hpp"

namespace firewall::cuda::jpeg {

using Eight = Pack<std::int16_t, 8>;  // a row or column of a block of coefficients

// A block in shared memory: eight rows, and room for one more, so that the rows of neighbouring blocks lie in
// different banks.
constexpr int kBlockRows = 9;

// The odd part, in 13-bit fixed point; both directions share it. a, b, c, d: coefficients 1, 3, 5, 7, or (forward)
// differences of samples 0 and 7, 1 and 6, 2 and 5, 3 and 4. Sums of products: the GPU multiplies and adds in one
// instruction.
FIREWALL_DEVICE inline void odd_part(int a, int b, int c, int d, int (&out)[4]) {
  out[0] = 11363 * a + 9633 * b + 6437 * c + 2260 * d;
  out[1] = 9633 * a - 2259 * b - 11362 * c - 6436 * d;
  out[2] = 6437 * a - 11362 * b + 2261 * c + 9633 * d;
  out[3] = 2260 * a - 6436 * b + 9633 * c - 11363 * d;
}

// Eight samples to eight coefficients. kFirst: the pass over rows, whose results keep two more bits.
template <bool kFirst>
FIREWALL_DEVICE inline Eight forward(const int (&v)[8]) {
  constexpr int kShift = kFirst ? 11 : 15;
  constexpr int kRounding = 1 << (kShift - 1);
  int sum[4], difference[4], odd[4];
  for (int i = 0; i < 4; ++i) {
    sum[i] = v[i] + v[7 - i];
    difference[i] = v[i] - v[7 - i];
  }
  odd_part(difference[0], difference[1], difference[2], difference[3], odd);
  const int outer = sum[0] + sum[3], inner = sum[1] + sum[2];
  const int low = sum[1] - sum[2], high = sum[0] - sum[3];
  int out[8];
  out[0] = kFirst ? (outer + inner) * 4 : (outer + inner + 2) >> 2;
  out[4] = kFirst ? (outer - inner) * 4 : (outer - inner + 2) >> 2;
  out[2] = (4433 * low + 10703 * high + kRounding) >> kShift;
  out[6] = (4433 * high - 10704 * low + kRounding) >> kShift;
  for (int i = 0; i < 4; ++i) out[2 * i + 1] = (odd[i] + kRounding) >> kShift;
  Eight packed;
  for (int i = 0; i < 8; ++i) packed.at[i] = static_cast<std::int16_t>(out[i]);
  return packed;
}

// Eight coefficients to eight values, before the shift that rounds them.
FIREWALL_DEVICE inline void inverse(const int (&x)[8], int rounding, int (&out)[8]) {
  int odd[4];
  odd_part(x[1], x[3], x[5], x[7], odd);
  const int sum = (x[0] + x[4]) * 8192 + rounding;
  const int difference = (x[0] - x[4]) * 8192 + rounding;
  const int outer = 10703 * x[2] + 4433 * x[6];
  const int inner = 4433 * x[2] - 10704 * x[6];
  const int even[4] = {sum + outer, difference + inner, difference - inner, sum - outer};
  for (int i = 0; i < 4; ++i) {
    out[i] = even[i] + odd[i];
    out[7 - i] = even[i] - odd[i];
  }
}

// A step q of a quantisation table, 1..255, and what divides by it: ceil(2^19 / q) * 2^8 + q.
using Step = std::uint32_t;

inline Step step_of(int q) {
  const auto by = static_cast<std::uint32_t>(q);
  return ((1u << 19) + by - 1) / by << 8 | by;
}

// libjpeg's quantisation and dequantisation: (|x| + 4q) / (8q) without remainder, the sign of x, times q. A
// coefficient lies within -8192..8192, so (|x| + 4q) / 8 is below 1152, and 1152 * 255 is below 2^19: the division by
// multiplication is exact (the tests try every x with every q).
FIREWALL_DEVICE inline int quantised(int x, Step step) {
  const int q = static_cast<int>(step & 255u);
  const auto magnitude = static_cast<std::uint32_t>((x < 0 ? -x : x) + 4 * q) >> 3;
  const int level = static_cast<int>(magnitude * (step >> 8) >> 19);
  return (x < 0 ? -level : level) * q;
}

}  // namespace firewall::cuda::jpeg
