// The forward DCT of libjpeg's slow integer path, quantisation, and the inverse DCT. Part of kernel.hpp.
#pragma once

#include "../lanes.hpp"
#include "plan.hpp"

namespace {

using firewall::jpeg::Band;
using firewall::jpeg::Canvas;
using firewall::jpeg::Coefficients;
using firewall::jpeg::Format;
using firewall::jpeg::kRingRows;
using firewall::jpeg::kRowMargin;
using firewall::jpeg::Plan;
using firewall::jpeg::Quantiser;

constexpr int kGroupBytes = 8 * kLanes;  // of a row of samples of a group
constexpr int kChunk = 16 * kLanes;      // pixels that are coloured at a time
constexpr int kGroupSize = 64 * kLanes;  // coefficients of a group

struct Places {
  alignas(16) std::uint8_t at[16];
};
constexpr std::uint8_t kNone = 0x80;  // `shuffle` writes zero there

// Multipliers of the odd part, in 13-bit fixed point, for the pairs (1,3) and (5,7); the inverse and the forward DCT
// share them. Row i gives output 3 - i of the odd part.
constexpr int kOdd[4][4] = {{11363, 9633, 6437, 2260},     // with 0 and 7 (forward: coefficient 1)
                            {9633, -2259, -11362, -6436},  // with 1 and 6 (3)
                            {6437, -11362, 2261, 9633},    // with 2 and 5 (5)
                            {2260, -6436, 9633, -11363}};  // with 3 and 4 (7)

inline S32 odd_part(int i, S16 pair13, S16 pair57) {
  return dot(pair13, fill_pairs(kOdd[i][0], kOdd[i][1])) + dot(pair57, fill_pairs(kOdd[i][2], kOdd[i][3]));
}

// One dimension of the inverse DCT of four rows or columns a lane, before its rounding shift. Pairs (0,4) (2,6) (1,3)
// (5,7) of the inputs.
inline void inverse(const S16 (&pair)[4], S32 rounding, S32 (&out)[8]) {
  const S32 sum = dot(pair[0], fill_pairs(8192, 8192)) + rounding;
  const S32 difference = dot(pair[0], fill_pairs(8192, -8192)) + rounding;
  const S32 outer = dot(pair[1], fill_pairs(10703, 4433));
  const S32 inner = dot(pair[1], fill_pairs(4433, -10704));
  const S32 even[4] = {sum + outer, difference + inner, difference - inner, sum - outer};
  for (int i = 0; i < 4; ++i) {
    const S32 odd = odd_part(i, pair[2], pair[3]);
    out[i] = even[i] + odd;
    out[7 - i] = even[i] - odd;
  }
}

// Quantisation and dequantisation of vector v (0..7) of a group.
inline S16 quantised(const std::int16_t* coefficients, const Quantiser& q, int v) {
  U16 m = load<U16>(coefficients + v * 8 * kLanes) + (U16)repeat(q.offset + 8 * v);
  m = multiply_high(m, (U16)repeat(q.reciprocal + 8 * v)) & (U16)repeat(q.mask + 8 * v);
  return (S16)(multiply_high(m, (U16)repeat(q.step + 8 * v)) - (U16)repeat(q.centre + 8 * v));
}

// Samples 0..255 of a group at one quality.
inline void inverse_group(const std::int16_t* coefficients, const Quantiser& q, std::uint8_t* to, std::size_t pitch) {
  // Columns. A register is a row of eight values a lane, its columns in the order 0 4 2 6 1 3 5 7.
  S16 rows[8];
  {
    S32 half[2][8];
    for (int h = 0; h < 2; ++h) {
      const S16 pairs[4] = {quantised(coefficients, q, h), quantised(coefficients, q, 2 + h),
                            quantised(coefficients, q, 4 + h), quantised(coefficients, q, 6 + h)};
      inverse(pairs, fill32(1 << 10), half[h]);
    }
    for (int r = 0; r < 8; ++r) rows[r] = narrow(half[0][r] >> 11, half[1][r] >> 11);
  }
  // Rows, four at a time: transposed as pairs of columns.
  S32 out[2][8];
  for (int h = 0; h < 2; ++h) {
    const S32 a = low32((S32)rows[4 * h], (S32)rows[4 * h + 1]);
    const S32 b = low32((S32)rows[4 * h + 2], (S32)rows[4 * h + 3]);
    const S32 c = high32((S32)rows[4 * h], (S32)rows[4 * h + 1]);
    const S32 d = high32((S32)rows[4 * h + 2], (S32)rows[4 * h + 3]);
    const S16 pairs[4] = {(S16)low64((U64)a, (U64)b), (S16)high64((U64)a, (U64)b), (S16)low64((U64)c, (U64)d),
                          (S16)high64((U64)c, (U64)d)};
    inverse(pairs, fill32((128 << 18) + (1 << 17)), out[h]);
  }
  alignas(16) static constexpr Places kTransposed = {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15}};
  const U8 transposed = repeat(kTransposed.at);
  for (int h = 0; h < 2; ++h) {
    U8 quarter[2];
    for (int i = 0; i < 2; ++i) {
      const S16 first = narrow(out[h][4 * i] >> 18, out[h][4 * i + 1] >> 18);
      const S16 second = narrow(out[h][4 * i + 2] >> 18, out[h][4 * i + 3] >> 18);
      quarter[i] = shuffle(narrow_unsigned(first, second), transposed);
    }
    std::uint8_t* row = to + static_cast<std::size_t>(4 * h) * pitch;
    split(row, row + pitch, (U8)low32((S32)quarter[0], (S32)quarter[1]));
    split(row + 2 * pitch, row + 3 * pitch, (U8)high32((S32)quarter[0], (S32)quarter[1]));
  }
}

// Every group takes the same time whatever it holds: skipping coefficients that become zero was tried, and gained 3 to
// 8 % on photographs.
inline void inverse_row(const std::int16_t* coefficients, int groups, const Quantiser& q, std::uint8_t* to,
                        std::size_t pitch) {
  for (int g = 0; g < groups; ++g) {
    inverse_group(coefficients, q, to, pitch);
    coefficients += kGroupSize;
    to += kGroupBytes;
  }
}

inline void transpose(S16 (&v)[8]) {
  S16 a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = low16(v[i], v[i + 4]);
    a[2 * i + 1] = high16(v[i], v[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = low16(a[i], a[i + 4]);
    b[2 * i + 1] = high16(a[i], a[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = low16(b[i], b[i + 4]);
    v[2 * i + 1] = high16(b[i], b[i + 4]);
  }
}

// One dimension of the forward DCT. kFirst: the pass over rows, whose results keep two more bits.
template <bool kFirst>
inline void forward(S16 (&v)[8]) {
  constexpr int kShift = kFirst ? 11 : 15;
  const S32 rounding = fill32(1 << (kShift - 1));
  S16 sum[4], difference[4];
  for (int i = 0; i < 4; ++i) {
    sum[i] = v[i] + v[7 - i];
    difference[i] = v[i] - v[7 - i];
  }
  const S16 outer = sum[0] + sum[3], inner = sum[1] + sum[2];
  const S16 low = sum[1] - sum[2], high = sum[0] - sum[3];
  v[0] = kFirst ? (outer + inner) << 2 : (outer + inner + fill16(2)) >> 2;
  v[4] = kFirst ? (outer - inner) << 2 : (outer - inner + fill16(2)) >> 2;
  const S16 even[2] = {low16(low, high), high16(low, high)};
  const S16 odd01[2] = {low16(difference[0], difference[1]), high16(difference[0], difference[1])};
  const S16 odd23[2] = {low16(difference[2], difference[3]), high16(difference[2], difference[3])};
  S32 out[2][8];
  for (int h = 0; h < 2; ++h) {
    out[h][2] = dot(even[h], fill_pairs(4433, 10703)) + rounding;
    out[h][6] = dot(even[h], fill_pairs(-10704, 4433)) + rounding;
    for (int i = 0; i < 4; ++i) out[h][2 * i + 1] = odd_part(i, odd01[h], odd23[h]) + rounding;
  }
  for (int i = 0; i < 8; ++i) {
    if (i % 4 != 0) v[i] = narrow(out[0][i] >> kShift, out[1][i] >> kShift);
  }
}

// Coefficients of a group whose eight rows of samples begin at rows[0..7] + offset.
inline void forward_group(const std::int8_t* const (&rows)[8], std::size_t offset, std::int16_t* to) {
  S16 v[8];
  for (int r = 0; r < 8; ++r) v[r] = widen(rows[r] + offset);
  transpose(v);
  forward<true>(v);
  // Into the order of columns 0 4 2 6 1 3 5 7, then back to one register a row.
  S16 w[8] = {v[0], v[4], v[2], v[6], v[1], v[3], v[5], v[7]};
  transpose(w);
  forward<false>(w);
  for (S16& x : w) x += x >> 15;  // see quantisation.cpp: -1 if negative
  constexpr int kPairs[4][2] = {{0, 4}, {2, 6}, {1, 3}, {5, 7}};
  for (int k = 0; k < 4; ++k) {
    const S16 a = w[kPairs[k][0]], b = w[kPairs[k][1]];
    store(to + 16 * k * kLanes, low16(a, b));
    store(to + (16 * k + 8) * kLanes, high16(a, b));
  }
}

}  // namespace
