// Separable resampling of one tile of a result, rows first: what scale and residual are made of.
//
// The source may be any number of times larger than the result, so a block of threads takes the rows that its tile is
// made of piece by piece: it makes them as narrow as the tile, rounds them to bytes, and adds them to sums.
#pragma once

#include <vector>

#include "../cpu/kernels/kernels.hpp"
#include "../cpu/resample.hpp"
#include "block.hpp"
#include "checks.hpp"

namespace firewall::cuda {

constexpr int kResampleWidth = 64, kResampleHeight = 16;  // of a tile, in pixels
constexpr int kResampleRows = 48;                         // of the source at a time
constexpr int kResamplePitch = 3 * kResampleWidth;

struct ResampleMemory {
  std::int32_t sums[kResampleHeight * kResamplePitch];  // of the tile, in units of 2^-22
  std::uint8_t rows[kResampleRows * kResamplePitch];
};

// The taps of one side, as places in a pool of integers.
struct Axis {
  std::ptrdiff_t starts, counts, weights;
  int longest, window;
};

// A rectangle of the result: left <= x < right, top <= y < bottom, at most as large as a tile.
struct Rectangle {
  int left, top, right, bottom;
};

FIREWALL_DEVICE inline std::uint8_t byte_of(std::int32_t sum) {
  return static_cast<std::uint8_t>(between(0, sum >> kWeightBits, 255));
}

// Leaves the sums of the rectangle's bytes, y * kResamplePitch + x from its corner.
template <typename Block>
FIREWALL_DEVICE void resample(Block& block, const std::uint8_t* source, std::ptrdiff_t stride, const std::int32_t* pool,
                              const Axis& across, const Axis& down, const Rectangle& tile, ResampleMemory& memory) {
  const int bytes = 3 * (tile.right - tile.left), lines = tile.bottom - tile.top;
  const std::int32_t* x_starts = pool + across.starts;
  const std::int32_t* x_counts = pool + across.counts;
  const std::int32_t* x_weights = pool + across.weights;
  const std::int32_t* y_starts = pool + down.starts;
  const std::int32_t* y_counts = pool + down.counts;
  const std::int32_t* y_weights = pool + down.weights;
  std::int32_t* sums = memory.sums;
  std::uint8_t* rows = memory.rows;
  const int x_longest = across.longest, y_longest = down.longest;
  const Divisor by_bytes(bytes);
  constexpr std::int32_t kHalf = std::int32_t{1} << (kWeightBits - 1);

  block.each(lines * bytes, [=](int i) {
    const int y = by_bytes.quotient(i);
    sums[y * kResamplePitch + by_bytes.remainder(i, y)] = kHalf;
  });
  // Starts and ends grow along a side.
  const int end = y_starts[tile.bottom - 1] + y_counts[tile.bottom - 1];
  for (int piece = y_starts[tile.top]; piece < end; piece += kResampleRows) {
    const int piece_end = smaller(piece + kResampleRows, end);
    block.each((piece_end - piece) * bytes, [=, &tile](int i) {
      const int row = by_bytes.quotient(i), byte = by_bytes.remainder(i, row);
      const int x = tile.left + byte / 3;
      const std::uint8_t* from = source + (piece + row) * stride + 3 * x_starts[x] + byte % 3;
      const std::int32_t* weights = x_weights + static_cast<std::ptrdiff_t>(x) * x_longest;
      std::int32_t sum = kHalf;
      for (int k = 0; k < x_counts[x]; ++k) sum += weights[k] * from[3 * k];
      rows[row * kResamplePitch + byte] = byte_of(sum);
    });
    block.each(lines * bytes, [=, &tile](int i) {
      const int line = by_bytes.quotient(i), byte = by_bytes.remainder(i, line);
      const int y = tile.top + line;
      const int start = y_starts[y];
      const int first = larger(piece, start), last = smaller(piece_end, start + y_counts[y]);
      const std::int32_t* weights = y_weights + static_cast<std::ptrdiff_t>(y) * y_longest;
      std::int32_t sum = 0;
      for (int row = first; row < last; ++row) {
        sum += weights[row - start] * rows[(row - piece) * kResamplePitch + byte];
      }
      sums[line * kResamplePitch + byte] += sum;
    });
  }
}

// --- on the host
// ------------------------------------------------------------------------------------------------------

// Adds the taps of a side to a pool; the arguments are those of make_taps.
inline Axis add_axis(std::vector<std::int32_t>& pool, std::int32_t from, std::int32_t to, std::int32_t window_start,
                     std::int32_t window, int filter) {
  const std::size_t begin = pool.size();
  const std::int32_t longest = most_taps(from, to, filter);
  pool.resize(begin + static_cast<std::size_t>(2 + longest) * static_cast<std::size_t>(window));
  const Taps taps = make_taps(from, to, window_start, window, filter, pool.data() + begin);
  return {taps.starts - pool.data(), taps.counts - pool.data(), taps.weights - pool.data(), taps.longest, window};
}

// Tiles that cover a result.
inline std::int64_t resample_tiles(int height, int width) {
  return static_cast<std::int64_t>((height + kResampleHeight - 1) / kResampleHeight) *
         ((width + kResampleWidth - 1) / kResampleWidth);
}

}  // namespace firewall::cuda
