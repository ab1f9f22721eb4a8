// From pixels to coefficients: what doesn't depend on the quality, done once for an image. Part of kernel.hpp.
#pragma once

#include "dct.hpp"

namespace {

// kChunk pixels to Y, Cb and Cr, each less 128.
inline void separate(const std::uint8_t* pixels, std::int8_t* luma, std::int8_t* blue, std::int8_t* red) {
  alignas(16) static constexpr Places kRedGreen[2] = {
      {{0, kNone, 1, kNone, 3, kNone, 4, kNone, 6, kNone, 7, kNone, 9, kNone, 10, kNone}},
      {{4, kNone, 5, kNone, 7, kNone, 8, kNone, 10, kNone, 11, kNone, 13, kNone, 14, kNone}}};
  alignas(16) static constexpr Places kBlueGreen[2] = {
      {{2, kNone, 1, kNone, 5, kNone, 4, kNone, 8, kNone, 7, kNone, 11, kNone, 10, kNone}},
      {{6, kNone, 5, kNone, 9, kNone, 8, kNone, 12, kNone, 11, kNone, 15, kNone, 14, kNone}}};
  S32 y[4], cb[4], cr[4];
  for (int k = 0; k < 4; ++k) {
    // Lane l takes the pixels 16 l + 4 k and three more. The last four are read four bytes early: nothing is read
    // behind the chunk.
    const int late = k == 3;
    const U8 bytes = gather(pixels + 12 * k - 4 * late, 48);
    const S16 rg = (S16)shuffle(bytes, repeat(kRedGreen[late].at));
    const S16 bg = (S16)shuffle(bytes, repeat(kBlueGreen[late].at));
    // The factor of green (38470 of 65536 in Y) is shared by both pairs, so that each part fits 16 bits. Cb and Cr are
    // negated for the same reason: 32768 doesn't fit, -32768 does.
    y[k] = (dot(rg, fill_pairs(19595, 19235)) + dot(bg, fill_pairs(7471, 19235)) + fill32(32768 - (128 << 16))) >> 16;
    cb[k] = (fill32(32767) - dot(rg, fill_pairs(11059, 10855)) - dot(bg, fill_pairs(-32768, 10854))) >> 16;
    cr[k] = (fill32(32767) - dot(rg, fill_pairs(-32768, 13720)) - dot(bg, fill_pairs(5329, 13719))) >> 16;
  }
  store(luma, narrow_signed(narrow(y[0], y[1]), narrow(y[2], y[3])));
  store(blue, narrow_signed(narrow(cb[0], cb[1]), narrow(cb[2], cb[3])));
  store(red, narrow_signed(narrow(cr[0], cr[1]), narrow(cr[2], cr[3])));
}

// A row, continued to the right with its last pixel up to whole chunks.
inline void separate_row(const Plan& plan, const std::uint8_t* pixels, const Band& band, std::int8_t* luma, int row) {
  std::int8_t* blue = band.blue + static_cast<std::size_t>(row) * plan.pitch;
  std::int8_t* red = band.red + static_cast<std::size_t>(row) * plan.pitch;
  int x = 0;
  for (; x + kChunk <= plan.width; x += kChunk) separate(pixels + 3 * x, luma + x, blue + x, red + x);
  if (x == plan.width) return;
  const int rest = 3 * (plan.width - x);
  __builtin_memcpy(band.pixels, pixels + 3 * x, static_cast<std::size_t>(rest));
  for (int i = rest; i < 3 * kChunk; ++i) band.pixels[i] = band.pixels[i - 3];
  separate(band.pixels, luma + x, blue + x, red + x);
}

inline void separate_grey_row(const Plan& plan, const std::uint8_t* pixels, std::int8_t* luma) {
  for (int x = 0; x < plan.width; ++x) luma[x] = static_cast<std::int8_t>(pixels[x] - 128);
  for (std::size_t x = static_cast<std::size_t>(plan.width); x < plan.pitch; ++x) luma[x] = luma[x - 1];
}

// Cb and Cr of `down` rows (the second may be the first again) to one row of chroma samples.
inline void shrink(const Plan& plan, const Band& band, int second, std::int8_t* to) {
  const std::int8_t* blue[2] = {band.blue, band.blue + static_cast<std::size_t>(second) * plan.pitch};
  const std::int8_t* red[2] = {band.red, band.red + static_cast<std::size_t>(second) * plan.pitch};
  if (plan.across == 1) {
    for (std::size_t x = 0; x < plan.pitch; x += kChunk) {
      const U64 b = load<U64>(blue[0] + x), r = load<U64>(red[0] + x);
      scatter<32>(to + 2 * x, (U8)low64(b, r));
      scatter<32>(to + 2 * x + 16, (U8)high64(b, r));
    }
  } else if (plan.down == 1) {
    const S16 bias = fill_pairs(0, 1);
    for (std::size_t x = 0; x < plan.pitch; x += kChunk) {
      const S16 b = (add_neighbours(load<S8>(blue[0] + x)) + bias) >> 1;
      const S16 r = (add_neighbours(load<S8>(red[0] + x)) + bias) >> 1;
      store(to + x, narrow_signed(b, r));
    }
  } else {
    const S16 bias = fill_pairs(1, 2);
    for (std::size_t x = 0; x < plan.pitch; x += kChunk) {
      const S16 b = add_neighbours(load<S8>(blue[0] + x)) + add_neighbours(load<S8>(blue[1] + x));
      const S16 r = add_neighbours(load<S8>(red[0] + x)) + add_neighbours(load<S8>(red[1] + x));
      store(to + x, narrow_signed((b + bias) >> 2, (r + bias) >> 2));
    }
  }
}

// A row of blocks; rows of samples behind the last one (`count`) repeat it.
inline void forward_row(const std::int8_t* samples, std::size_t pitch, int count, int groups, std::int16_t* to) {
  const std::int8_t* rows[8];
  for (int r = 0; r < 8; ++r) rows[r] = samples + static_cast<std::size_t>(r < count ? r : count - 1) * pitch;
  for (int g = 0; g < groups; ++g) {
    forward_group(rows, static_cast<std::size_t>(g) * kGroupBytes, to + g * kGroupSize);
  }
}

void prepare(const Plan& plan, const std::uint8_t* pixels, std::ptrdiff_t stride, int first, int last, const Band& band,
             const Coefficients& out) {
  const int band_rows = 8 * plan.down;
  for (int b = first; b < last; ++b) {
    const int top = b * band_rows;
    const int rows = plan.height - top < band_rows ? plan.height - top : band_rows;
    for (int r = 0; r < rows; ++r) {
      const std::uint8_t* row = pixels + (top + r) * stride;
      std::int8_t* luma = band.luma + static_cast<std::size_t>(r) * plan.pitch;
      if (plan.grey) {
        separate_grey_row(plan, row, luma);
        continue;
      }
      separate_row(plan, row, band, luma, r % plan.down);
      if (plan.down == 2 && r % 2 == 0 && r + 1 < rows) continue;
      // At the bottom an odd row is repeated and then made smaller; `forward_row` repeats the result.
      shrink(plan, band, r % plan.down, band.chroma + static_cast<std::size_t>(r / plan.down) * plan.chroma_pitch);
    }
    for (int i = 0; i < plan.down && 8 * i < rows; ++i) {
      const std::size_t at = static_cast<std::size_t>(b * plan.down + i) * static_cast<std::size_t>(plan.luma_groups);
      forward_row(band.luma + static_cast<std::size_t>(8 * i) * plan.pitch, plan.pitch, rows - 8 * i, plan.luma_groups,
                  out.luma + at * kGroupSize);
    }
    if (!plan.grey) {
      const std::size_t at = static_cast<std::size_t>(b) * static_cast<std::size_t>(plan.chroma_groups);
      forward_row(band.chroma, plan.chroma_pitch, (rows + plan.down - 1) / plan.down, plan.chroma_groups,
                  out.chroma + at * kGroupSize);
    }
  }
}

}  // namespace
