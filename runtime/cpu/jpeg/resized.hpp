// Copies of the sweep that are resized while they are rendered, a strip of rows at a time. Internal.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../resample.hpp"
#include "plan.hpp"

namespace firewall::jpeg {

// From the sides of the image to those of the result, the same for every quality and thread.
struct Resizing {
  int height, width, filter;
  int channels;
  Format format;  // of the result; `render` writes uint8
  Taps across, down;
};

// What one thread needs of the scratch. A column of pixels of a strip is a line of strip_line bytes: its colours one
// after the other, strip_rows bytes each.
struct Strip {
  std::uint8_t* rows;    // as they are rendered: strip_rows of the width of the image
  std::uint8_t* turned;  // the same by columns; one line for each column of the image
  std::uint8_t* across;  // one line for each column of the result; may be where `rows` is
  std::uint8_t* window;  // rows as wide as the result, window_rows of them
  std::uint8_t* row;     // a row of the result before it is normalised, and kAlignment bytes that may be read
};

// Both are multiples of the rows of a block and of what vector units take at a time; 96 bytes are three AVX2 vectors.
constexpr int strip_rows(int channels) noexcept { return channels == 1 ? 96 : 32; }
constexpr int strip_line(int channels) noexcept { return channels * strip_rows(channels); }

// Rows that `Strip::window` holds at most, for an image of `height` rows.
int window_rows(int height, const Resizing& resizing) noexcept;

// One copy, rendered and resized.
void render_resized(const Kernel& kernel, const Plan& plan, const Coefficients& in, const Quantiser& luma,
                    const Quantiser& chroma, const Canvas& canvas, const Resizing& resizing, const Strip& strip,
                    void* destination) noexcept;

}  // namespace firewall::jpeg
