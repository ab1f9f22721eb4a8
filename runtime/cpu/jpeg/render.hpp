// From coefficients to the pixels of one copy: what is done at each quality. Part of kernel.hpp.
#pragma once

#include "dct.hpp"

namespace {

// Eight pixels a lane: blue and red of the even and of the odd ones, and green in order; not yet cut to 0..255.
struct Colours {
  U8 blue_red;  // a lane: B R of pixels 0 2 4 6, then of 1 3 5 7
  S16 green;
};

// even, odd: pairs 2 (Cb - 128), 2 (Cr - 128) of four even and four odd pixels a lane. Twice the value makes every
// product fit: 1.402 and 1.772 times it are one rounding multiplication (checked for all 256 values in the tests), and
// 22554 and 46802 of 65536 (both even) become 16-bit factors.
inline Colours colour(const std::uint8_t* luma, S16 even, S16 odd) {
  alignas(16) static constexpr Places kEven = {{0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13}};
  alignas(16) static constexpr Places kOddOnes = {{2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15}};
  const S16 y = widen(luma);
  const S16 blue_red = fill_pairs(29033, 22970);
  const S16 green = fill_pairs(-11277, -23401);
  const S32 rounding = fill32(32768);
  const S16 outer_even = multiply_round(even, blue_red) + (S16)shuffle((U8)y, repeat(kEven.at));
  const S16 outer_odd = multiply_round(odd, blue_red) + (S16)shuffle((U8)y, repeat(kOddOnes.at));
  return {narrow_unsigned(outer_even, outer_odd),
          y + high_halves(dot(even, green) + rounding, dot(odd, green) + rounding)};
}

// Two halves of a chunk to 48 bytes a lane-pair: R G B of each pixel.
inline void store_pixels(std::uint8_t* to, const Colours& a, const Colours& b) {
  constexpr std::uint8_t no = kNone;
  // Pixels 0..4 and R of 5 of eight: from blue_red, and from green of a and of b.
  alignas(16) static constexpr Places kHeadOuter = {{1, no, 0, 9, no, 8, 3, no, 2, 11, no, 10, 5, no, 4, 13}};
  alignas(16) static constexpr Places kHeadGreenA = {{no, 0, no, no, 1, no, no, 2, no, no, 3, no, no, 4, no, no}};
  alignas(16) static constexpr Places kHeadGreenB = {{no, 8, no, no, 9, no, no, 10, no, no, 11, no, no, 12, no, no}};
  // G and B of 5, and 6 and 7: of a in the low half, of b in the high.
  alignas(16) static constexpr Places kTailOuterA = {{no, 12, 7, no, 6, 15, no, 14, no, no, no, no, no, no, no, no}};
  alignas(16) static constexpr Places kTailOuterB = {{no, no, no, no, no, no, no, no, no, 12, 7, no, 6, 15, no, 14}};
  alignas(16) static constexpr Places kTailGreen = {{5, no, no, 6, no, no, 7, no, 13, no, no, 14, no, no, 15, no}};
  const U8 green = narrow_unsigned(a.green, b.green);
  const U8 outer = repeat(kHeadOuter.at);
  const U8 head_a = shuffle(a.blue_red, outer) | shuffle(green, repeat(kHeadGreenA.at));
  const U8 head_b = shuffle(b.blue_red, outer) | shuffle(green, repeat(kHeadGreenB.at));
  const U8 tail = shuffle(a.blue_red, repeat(kTailOuterA.at)) | shuffle(b.blue_red, repeat(kTailOuterB.at)) |
                  shuffle(green, repeat(kTailGreen.at));
  scatter<24>(to, head_a);
  scatter<24>(to + 24 * kLanes, head_b);
  scatter_halves<24>(to + 16, to + 24 * kLanes + 16, tail);
}

inline void store_planes(std::uint8_t* red, std::uint8_t* green, std::uint8_t* blue, const Colours& a,
                         const Colours& b) {
  alignas(16) static constexpr Places kInOrder = {{1, 9, 3, 11, 5, 13, 7, 15, 0, 8, 2, 10, 4, 12, 6, 14}};
  const U64 first = (U64)shuffle(a.blue_red, repeat(kInOrder.at));
  const U64 second = (U64)shuffle(b.blue_red, repeat(kInOrder.at));
  split(red, red + kGroupBytes, (U8)low64(first, second));
  split(blue, blue + kGroupBytes, (U8)high64(first, second));
  split(green, green + kGroupBytes, narrow_unsigned(a.green, b.green));
}

enum class Chroma { full, wide, both };  // as many samples as pixels; half as many across; across and down

// Sums of a row of chroma, as pairs Cb, Cr: 3 near + far (both), or the samples themselves (wide), less what centres
// the result of `enlarge` at zero. One more pair on either side repeats the last.
template <Chroma kChroma>
inline void sum_rows(const Plan& plan, const std::uint8_t* near, const std::uint8_t* far, std::uint8_t* sums) {
  const U8 factors = (U8)fill16(kChroma == Chroma::both ? 0x0103 : 0x0001);
  const S16 centre = fill16(kChroma == Chroma::both ? -510 : -128);
  std::uint8_t* to = sums + kRowMargin;
  const int units = (plan.chroma_width + 7) / 8;
  int u = 0;
  for (; u < units; u += kLanes) {
    const U8 a = load<U8>(near + 16 * u), b = load<U8>(far + 16 * u);
    const S16 blue = dot_bytes(low8(a, b), factors) + centre;
    const S16 red = dot_bytes(high8(a, b), factors) + centre;
    scatter<32>(to + 32 * u, (U8)low16(blue, red));
    scatter<32>(to + 32 * u + 16, (U8)high16(blue, red));
  }
  __builtin_memset(to + 32 * u, 0, 4);  // the right neighbour of the last pair, which may be of no pixel
  __builtin_memcpy(to - 4, to, 4);
  std::uint8_t* end = to + 4 * plan.chroma_width;
  __builtin_memcpy(end, end - 4, 4);
}

// Pairs of twice the chroma of the even and odd pixels of half a chunk. at: its sums, or its samples (full).
template <Chroma kChroma>
inline void enlarge(const std::uint8_t* at, S16& even, S16& odd) {
  if (kChroma == Chroma::full) {
    alignas(16) static constexpr Places kEven = {
        {0, kNone, 8, kNone, 2, kNone, 10, kNone, 4, kNone, 12, kNone, 6, kNone, 14, kNone}};
    alignas(16) static constexpr Places kOddOnes = {
        {1, kNone, 9, kNone, 3, kNone, 11, kNone, 5, kNone, 13, kNone, 7, kNone, 15, kNone}};
    const U8 samples = load<U8>(at);
    even = ((S16)shuffle(samples, repeat(kEven.at)) << 1) - fill16(256);
    odd = ((S16)shuffle(samples, repeat(kOddOnes.at)) << 1) - fill16(256);
    return;
  }
  // Unsigned: behind the end of a row lies whatever was there before, and its sums may wrap.
  const U16 here = load<U16>(at), left = load<U16>(at - 4), right = load<U16>(at + 4);
  const U16 thrice = here + here + here;
  const S16 whole = fill16(-2);
  if (kChroma == Chroma::both) {
    even = ((S16)(thrice + left) >> 3) & whole;
    odd = ((S16)(thrice + right - (U16)fill16(1)) >> 3) & whole;
  } else {
    even = ((S16)(thrice + left + (U16)fill16(1)) >> 1) & whole;
    odd = ((S16)(thrice + right + (U16)fill16(2)) >> 1) & whole;
  }
}

// One chunk of one row. at as in `enlarge`.
template <Chroma kChroma>
inline void colour_chunk(const std::uint8_t* luma, const std::uint8_t* at, Colours& a, Colours& b) {
  S16 even, odd;
  enlarge<kChroma>(at, even, odd);
  a = colour(luma, even, odd);
  enlarge<kChroma>(at + kBytes, even, odd);
  b = colour(luma + kGroupBytes, even, odd);
}

// A row of pixels. `end`: what lies at or behind it must not be written; up to there every byte may be, since the rows
// of an image are written from the top.
template <Chroma kChroma>
inline void colour_row(int width, const std::uint8_t* luma, const std::uint8_t* at, std::uint8_t* to,
                       const std::uint8_t* end, std::uint8_t* tail) {
  Colours a, b;
  for (int x = 0; x < width; x += kChunk) {
    colour_chunk<kChroma>(luma + x, at + 2 * x, a, b);
    if (end - to >= 3 * kChunk) {
      store_pixels(to, a, b);
    } else {
      store_pixels(tail, a, b);
      const int rest = width - x < kChunk ? width - x : kChunk;
      __builtin_memcpy(to, tail, static_cast<std::size_t>(3 * rest));
    }
    to += 3 * kChunk;
  }
}

template <Chroma kChroma>
inline void colour_planes(const Plan& plan, const std::uint8_t* luma, const std::uint8_t* at, std::uint8_t* planes) {
  Colours a, b;
  for (int x = 0; x < plan.width; x += kChunk) {
    colour_chunk<kChroma>(luma + x, at + 2 * x, a, b);
    store_planes(planes + x, planes + plan.pitch + x, planes + 2 * plan.pitch + x, a, b);
  }
}

inline void store_numbers(float* to, F32 v) { store(to, v); }
inline void store_numbers(std::uint16_t* to, F32 v) { store_half(to, v); }

template <typename Number>
inline void normalise_row(const std::uint8_t* samples, int count, float scale, float shift, Number* to) {
  constexpr int kStep = 4 * kLanes;
  const F32 scales = scale - F32{}, shifts = shift - F32{};
  int x = 0;
  // Four at a time: counting costs as much as converting. (Converting each chunk where it is computed, without the row
  // of samples between, is slower: too many streams at once.)
  for (; x + 4 * kStep <= count; x += 4 * kStep) {
    for (int k = 0; k < 4 * kStep; k += kStep) {
      store_numbers(to + x + k, widen_float(samples + x + k) * scales + shifts);
    }
  }
  for (; x + kStep <= count; x += kStep) store_numbers(to + x, widen_float(samples + x) * scales + shifts);
  if (x == count) return;
  Number rest[kStep];
  store_numbers(rest, widen_float(samples + x) * scales + shifts);
  __builtin_memcpy(to + x, rest, static_cast<std::size_t>(count - x) * sizeof(Number));
}

// A row of one channel as numbers for a network.
void normalise(const std::uint8_t* samples, int count, float scale, float shift, Format format, void* to) {
  if (format == Format::float32) {
    normalise_row(samples, count, scale, shift, static_cast<float*>(to));
  } else {
    normalise_row(samples, count, scale, shift, static_cast<std::uint16_t*>(to));
  }
}

inline void write_planes(const Plan& plan, const std::uint8_t* planes, int channels, int y, void* destination) {
  const std::size_t number = plan.format == Format::float32 ? sizeof(float) : sizeof(std::uint16_t);
  for (int c = 0; c < channels; ++c) {
    const std::size_t at = static_cast<std::size_t>(c * plan.height + y) * static_cast<std::size_t>(plan.width);
    normalise(planes + static_cast<std::size_t>(c) * plan.pitch, plan.width, plan.scale[c], plan.shift[c], plan.format,
              static_cast<char*>(destination) + at * number);
  }
}

// A piece of a copy: its first row and the one behind its last, and where the first one goes.
struct Piece {
  int top, bottom;
  void* destination;
};

template <Chroma kChroma>
inline void write_row(const Plan& plan, const Canvas& canvas, const std::uint8_t* luma, const std::uint8_t* at, int y,
                      const Piece& piece) {
  if (plan.format == Format::uint8) {
    const std::size_t row = 3 * static_cast<std::size_t>(plan.width);
    auto* to = static_cast<std::uint8_t*>(piece.destination);
    colour_row<kChroma>(plan.width, luma, at, to + static_cast<std::size_t>(y - piece.top) * row,
                        to + static_cast<std::size_t>(piece.bottom - piece.top) * row, canvas.tail);
  } else {
    colour_planes<kChroma>(plan, luma, at, canvas.planes);
    write_planes(plan, canvas.planes, 3, y, piece.destination);
  }
}

inline const std::uint8_t* ring_row(const Plan& plan, const Canvas& canvas, int row) {
  return canvas.ring + static_cast<std::size_t>(row % kRingRows) * plan.chroma_pitch;
}

inline void write_colour_row(const Plan& plan, const Canvas& canvas, const std::uint8_t* luma, int y,
                             const Piece& piece) {
  const int row = y / plan.down;
  const std::uint8_t* near = ring_row(plan, canvas, row);
  if (plan.across == 1) {
    write_row<Chroma::full>(plan, canvas, luma, near, y, piece);
  } else if (!plan.fancy) {
    // Up to four columns: each sample is repeated. One unit of 8 Cb and 8 Cr holds them all.
    for (int x = 0; x < 8; ++x) {
      canvas.sums[x] = near[x / 2];
      canvas.sums[8 + x] = near[8 + x / 2];
    }
    write_row<Chroma::full>(plan, canvas, luma, canvas.sums, y, piece);
  } else if (plan.down == 1) {
    sum_rows<Chroma::wide>(plan, near, near, canvas.sums);
    write_row<Chroma::wide>(plan, canvas, luma, canvas.sums + kRowMargin, y, piece);
  } else {
    const int last = plan.chroma_height - 1;
    const int other = y % 2 == 0 ? (row > 0 ? row - 1 : 0) : (row < last ? row + 1 : last);
    sum_rows<Chroma::both>(plan, near, ring_row(plan, canvas, other), canvas.sums);
    write_row<Chroma::both>(plan, canvas, luma, canvas.sums + kRowMargin, y, piece);
  }
}

inline void write_grey_row(const Plan& plan, const std::uint8_t* luma, int y, const Piece& piece) {
  if (plan.format != Format::uint8) return write_planes(plan, luma, 1, y, piece.destination);
  const std::size_t width = static_cast<std::size_t>(plan.width);
  auto* to = static_cast<std::uint8_t*>(piece.destination);
  __builtin_memcpy(to + static_cast<std::size_t>(y - piece.top) * width, luma, width);
}

// Rows of chroma blocks that the rows of luma blocks up to `b` need: the last row of these may need the first row of
// the chroma blocks below.
inline int chroma_needed(const Plan& plan, int b) {
  if (b < 0) return 0;
  const int below = plan.down == 2 ? 4 * b + 4 : 8 * b;
  return (below < plan.chroma_height - 1 ? below : plan.chroma_height - 1) / 8 + 1;
}

void render(const Plan& plan, const Coefficients& in, const Quantiser& luma, const Quantiser& chroma,
            const Canvas& canvas, int first, int last, void* destination) {
  const Piece piece = {8 * first, 8 * last < plan.height ? 8 * last : plan.height, destination};
  for (int b = first; b < last; ++b) {
    const std::size_t at = static_cast<std::size_t>(b) * static_cast<std::size_t>(plan.luma_groups);
    inverse_row(in.luma + at * kGroupSize, plan.luma_groups, luma, canvas.luma, plan.pitch);
    if (!plan.grey) {
      const int needed = chroma_needed(plan, b);
      for (int c = chroma_needed(plan, b - 1); c < needed; ++c) {
        const std::size_t from = static_cast<std::size_t>(c) * static_cast<std::size_t>(plan.chroma_groups);
        inverse_row(in.chroma + from * kGroupSize, plan.chroma_groups, chroma,
                    canvas.ring + static_cast<std::size_t>(8 * (c % 2)) * plan.chroma_pitch, plan.chroma_pitch);
      }
    }
    const int rows = piece.bottom - 8 * b < 8 ? piece.bottom - 8 * b : 8;
    for (int r = 0; r < rows; ++r) {
      const std::uint8_t* samples = canvas.luma + static_cast<std::size_t>(r) * plan.pitch;
      if (plan.grey) {
        write_grey_row(plan, samples, 8 * b + r, piece);
      } else {
        write_colour_row(plan, canvas, samples, 8 * b + r, piece);
      }
    }
  }
}

}  // namespace
