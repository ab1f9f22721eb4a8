// The inner loops of the operations, compiled once for each set of vector instructions from one source (kernels.cpp).
// All sets give the same bytes. Internal: the operations call them, nobody else.
#pragma once

#include <cstddef>
#include <cstdint>

#include "firewall/simd.hpp"

namespace firewall {

// Weights of a resampling are integers of 2^-22, those of a box blur of 2^-24.
inline constexpr int kWeightBits = 22;
inline constexpr int kBoxBits = 24;

// One box blur: result = (inner * sum of 2 * radius + 1 pixels + outer * (the two pixels beyond them)) / 2^24.
struct Box {
  int radius;
  std::uint32_t inner;
  std::uint32_t outer;
};

// kernels.cpp keeps sums in 16 bits, so wider boxes are not its work.
inline constexpr int kWidestBox = 63;

struct Kernels {
  // destination[i] = sum over k of weights[k] * source[k * stride + i], rounded, cut to 0..255; i < lanes, taps >= 1.
  void (*weigh)(std::uint8_t* destination, const std::uint8_t* source, std::ptrdiff_t stride,
                const std::int32_t* weights, int taps, std::size_t lanes);

  // Three box blurs along the lines: destination line y, lane i from the source lines around y, lane i. Beyond the
  // first and last line these repeat. columns: box_columns_size(lines) bytes. box.radius <= kWidestBox.
  void (*box_blur)(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
                   std::ptrdiff_t source_stride, int lines, std::size_t lanes, Box box, std::uint8_t* columns);

  // destination[x][y] = source[y][x] for y < rows, x < columns.
  void (*transpose)(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
                    std::ptrdiff_t source_stride, std::size_t rows, std::size_t columns);

  // A row of RGB pixels, colours apart: destination[c * plane + x] = source[3 * x + c] * scale[c] + shift[c], both
  // operations rounded; x < width.
  void (*planes)(float* destination, std::size_t plane, const std::uint8_t* source, std::size_t width,
                 const float* scale, const float* shift);
};

// Two columns of the widest block of lanes.
constexpr std::size_t box_columns_size(std::int32_t lines) noexcept {
  return std::size_t{2} * 64 * static_cast<std::size_t>(lines);
}

// The kernels in use: the best of this machine, unless a test chose others.
const Kernels& kernels() noexcept;

// For tests: from now on, in all threads, use the kernels of this level. False, and nothing changes, where this binary
// has none for it or the machine can't run them.
bool use_kernels(SimdLevel level) noexcept;

// The same for a test that brings its own.
void use_kernels(const Kernels& table) noexcept;

}  // namespace firewall
