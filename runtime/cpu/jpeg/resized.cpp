#include "resized.hpp"

#include <algorithm>
#include <cstring>

#include "../kernels/kernels.hpp"

namespace firewall::jpeg {
namespace {

std::size_t size(int value) noexcept { return static_cast<std::size_t>(value); }

// The rows of a strip, as they were rendered, to rows of the width of the result. For numbers the colours of a row are
// put one after the other, for bytes they stay together.
void narrow(const Resizing& resizing, int width, int rows, const Strip& strip, std::uint8_t* to) noexcept {
  const int channels = resizing.channels;
  const std::ptrdiff_t side = strip_rows(channels);
  const std::ptrdiff_t line = strip_line(channels);
  const std::ptrdiff_t from_row = std::ptrdiff_t{channels} * width;
  const std::ptrdiff_t to_row = std::ptrdiff_t{channels} * resizing.width;
  kernels().transpose(strip.turned, side, strip.rows, from_row, size(rows), static_cast<std::size_t>(from_row));
  // A strip that isn't full is done as if it were: whole vectors, and what they make of the rest is not read.
  resample_lines(strip.across, line, strip.turned, line, 0, resizing.across, static_cast<std::size_t>(line));
  if (resizing.format == Format::uint8) {
    kernels().transpose(to, to_row, strip.across, side, static_cast<std::size_t>(to_row), size(rows));
    return;
  }
  for (int c = 0; c < channels; ++c) {
    kernels().transpose(to + std::ptrdiff_t{c} * resizing.width, to_row, strip.across + c * side, line,
                        size(resizing.width), size(rows));
  }
}

// Row y of the result, from rows that begin with number `first`.
void write_row(const Kernel& kernel, const Plan& plan, const Resizing& resizing, const Strip& strip, int y, int first,
               void* destination) noexcept {
  const std::size_t row = size(resizing.channels) * size(resizing.width);
  const Taps& down = resizing.down;
  const auto weigh = [&](std::uint8_t* to) {
    kernels().weigh(to, strip.window + size(down.starts[y] - first) * row, static_cast<std::ptrdiff_t>(row),
                    down.weights + std::ptrdiff_t{down.longest} * y, down.counts[y], row);
  };
  if (resizing.format == Format::uint8) return weigh(static_cast<std::uint8_t*>(destination) + size(y) * row);
  weigh(strip.row);
  const std::size_t number = resizing.format == Format::float32 ? sizeof(float) : sizeof(std::uint16_t);
  for (int c = 0; c < resizing.channels; ++c) {
    const std::size_t at = (size(c) * size(resizing.height) + size(y)) * size(resizing.width);
    kernel.normalise(strip.row + size(c) * size(resizing.width), resizing.width, plan.scale[c], plan.shift[c],
                     resizing.format, static_cast<char*>(destination) + at * number);
  }
}

}  // namespace

int window_rows(int height, const Resizing& resizing) noexcept {
  return std::min(height, most_taps(height, resizing.height, resizing.filter)) + strip_rows(resizing.channels);
}

void render_resized(const Kernel& kernel, const Plan& plan, const Coefficients& in, const Quantiser& luma,
                    const Quantiser& chroma, const Canvas& canvas, const Resizing& resizing, const Strip& strip,
                    void* destination) noexcept {
  const std::size_t row = size(resizing.channels) * size(resizing.width);
  const int blocks = strip_rows(resizing.channels) / 8;
  const Taps& down = resizing.down;
  int first = 0;  // number of the first row in the window
  int ready = 0;  // of the row behind the last one in it
  int y = 0;      // of the next row of the result
  for (int b = 0; b < plan.luma_rows; b += blocks) {
    const int last = std::min(b + blocks, plan.luma_rows);
    const int rows = std::min(8 * last, plan.height) - 8 * b;
    kernel.render(plan, in, luma, chroma, canvas, b, last, strip.rows);
    narrow(resizing, plan.width, rows, strip, strip.window + size(ready - first) * row);
    ready += rows;
    for (; y < down.window && down.starts[y] + down.counts[y] <= ready; ++y) {
      write_row(kernel, plan, resizing, strip, y, first, destination);
    }
    // What no further row needs makes room.
    const int next = y < down.window ? std::min(down.starts[y], ready) : ready;
    if (next > first && next < ready) {
      std::memmove(strip.window, strip.window + size(next - first) * row, size(ready - next) * row);
    }
    first = next;
  }
}

}  // namespace firewall::jpeg
