#include "quantisation.hpp"

#include <algorithm>

namespace firewall::jpeg {
namespace {

// ITU-T T.81, tables K.1 and K.2.
constexpr std::uint8_t kStandard[2][8][8] = {{{16, 11, 10, 16, 24, 40, 51, 61},
                                              {12, 12, 14, 19, 26, 58, 60, 55},
                                              {14, 13, 16, 24, 40, 57, 69, 56},
                                              {14, 17, 22, 29, 51, 87, 80, 62},
                                              {18, 22, 37, 56, 68, 109, 103, 77},
                                              {24, 35, 55, 64, 81, 104, 113, 92},
                                              {49, 64, 78, 87, 103, 121, 120, 101},
                                              {72, 92, 95, 98, 112, 100, 103, 99}},
                                             {{17, 18, 24, 47, 99, 99, 99, 99},
                                              {18, 21, 26, 66, 99, 99, 99, 99},
                                              {24, 26, 56, 99, 99, 99, 99, 99},
                                              {47, 66, 99, 99, 99, 99, 99, 99},
                                              {99, 99, 99, 99, 99, 99, 99, 99},
                                              {99, 99, 99, 99, 99, 99, 99, 99},
                                              {99, 99, 99, 99, 99, 99, 99, 99},
                                              {99, 99, 99, 99, 99, 99, 99, 99}}};

// A forward DCT coefficient lies within -8192..8192 (8 times the orthonormal one); a little more costs nothing.
constexpr int kLargest = 8256;

// libjpeg: magnitude (|x| + 4q) / (8q) without remainder, the sign of x, times q. The same without a sign: `prepare`
// has subtracted 1 from negative x, so that rounding half up is rounding half away from zero, and a multiple of 8q
// (8q * turns) makes the dividend n positive:
//   n = x + offset               0 <= n < 2^15
//   m = n * reciprocal >> 16     m >> s == n / (8q), for 2^s is the largest power of two below 8q
//   m = m & mask                 (m >> s) << s
//   m = m * step >> 16           (m >> s) * q, for step is q << (16 - s)
//   m - centre                   takes q * turns away
void fill(Quantiser& out, int table, int quality) noexcept {
  for (int place = 0; place < kBlock; ++place) {
    const int q = table_entry(table, quality, row_of(place), column_of(place));
    const int divisor = 8 * q;
    const int turns = (kLargest + divisor - 1) / divisor;
    int s = 0;
    while ((2 << s) < divisor) ++s;
    out.offset[place] = static_cast<std::uint16_t>(4 * q + divisor * turns);
    out.reciprocal[place] = static_cast<std::uint16_t>(((1u << (16 + s)) + static_cast<unsigned>(divisor) - 1) /
                                                       static_cast<unsigned>(divisor));
    out.mask[place] = static_cast<std::uint16_t>(65535u << s);
    out.step[place] = static_cast<std::uint16_t>(q << (16 - s));
    out.centre[place] = static_cast<std::uint16_t>(q * turns);
  }
}

struct Tables {
  Quantiser quantiser[2][100];
};

// In static storage, which is zero before any code runs; filled on first use by one thread while others wait.
Tables tables;

bool fill_quantisers() noexcept {
  for (int table = 0; table < 2; ++table) {
    for (int quality = 1; quality <= 100; ++quality) fill(tables.quantiser[table][quality - 1], table, quality);
  }
  return true;
}

}  // namespace

int row_of(int place) noexcept {
  constexpr int kRows[4][2] = {{0, 4}, {2, 6}, {1, 3}, {5, 7}};
  return kRows[place / 16][place % 2];
}

int column_of(int place) noexcept {
  constexpr int kColumns[8] = {0, 4, 2, 6, 1, 3, 5, 7};
  return kColumns[place / 2 % 8];
}

int table_entry(int table, int quality, int row, int column) noexcept {
  const int percent = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  return std::clamp((kStandard[table][row][column] * percent + 50) / 100, 1, 255);
}

const Quantiser& quantiser(int table, int quality) noexcept {
  static const bool filled = fill_quantisers();
  return tables.quantiser[filled ? table : 0][quality - 1];
}

}  // namespace firewall::jpeg
