// Separable resampling in integers: what scale and residual are made of. Internal.
#pragma once

#include <cstddef>
#include <cstdint>

namespace firewall {

// For each pixel of the result in a window: the first source pixel it is made of, how many, and their weights.
struct Taps {
  std::int32_t* starts;  // of source pixels
  std::int32_t* counts;
  std::int32_t* weights;  // `longest` for each pixel of the window, in units of 2^-22
  std::int32_t longest;
  std::int32_t window;  // pixels of the window

  // Source pixels that the window needs: from first() to before end(). Both grow along the window.
  std::int32_t first() const noexcept { return starts[0]; }
  std::int32_t end() const noexcept { return starts[window - 1] + counts[window - 1]; }
};

bool known_filter(int filter) noexcept;

// int32 values of memory that `make_taps` needs at most, for a window of at most `side` pixels, made from at most
// `side` pixels. A pixel has at most 4 * from / to + 3 weights, and there are two more values for each.
constexpr std::size_t taps_memory(std::int32_t side) noexcept {
  return std::size_t{9} * static_cast<std::size_t>(side);
}

// Most source pixels that a pixel of the result is made of.
std::int32_t most_taps(std::int32_t from, std::int32_t to, int filter) noexcept;

// What `make_taps` needs exactly, for all pixels of the result.
std::size_t taps_memory(std::int32_t from, std::int32_t to, int filter) noexcept;

// The taps of pixels window_start .. window_start + window of `to` pixels made from `from` pixels.
Taps make_taps(std::int32_t from, std::int32_t to, std::int32_t window_start, std::int32_t window, int filter,
               std::int32_t* memory) noexcept;

// Makes the lines of the window from whole lines of the source: line i of the result from those that its taps name,
// each of `length` bytes. first: the number of the source line that `source` points to.
void resample_lines(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
                    std::ptrdiff_t source_stride, std::int32_t first, const Taps& taps, std::size_t length) noexcept;

// Resamples an image that is given turned (its transpose: line x holds the colours of column x, `height` bytes each)
// to a window of across.window x down.window pixels at destination. first and second: 3 * height * across.window bytes
// each.
void resample(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* turned,
              std::int32_t height, const Taps& across, const Taps& down, std::uint8_t* first,
              std::uint8_t* second) noexcept;

}  // namespace firewall
