// The inner loops of a network, compiled once for each set of vector instructions from one source, as kernels.hpp says.
// Channels lie side by side, 16 a group; all sets do the same multiply-adds in the same order. Internal.
#pragma once

#include <cstddef>
#include <cstdint>

#include "firewall/simd.hpp"

namespace firewall {

inline constexpr std::size_t kGroup = 16;
// Rows of a block of products: 6 x 4 groups fill the registers of AVX-512, 6 x 1 those of the others.
inline constexpr int kRows = 6;

// One block of rows: each is `segments` runs of `length` numbers, `apart` numbers from one run to the next.
struct Product {
  const float* rows[kRows];
  float* results[kRows];
  const float* added[kRows];  // null: nothing is added
  int segments;
  std::ptrdiff_t length;
  std::ptrdiff_t apart;
  const float* weights;   // of the first group: segments * length times 16
  std::ptrdiff_t column;  // from one group's weights to the next's
  std::ptrdiff_t ahead;   // from the weights to those that are worth having in the cache by then
  const float* bias;      // null: 0
  bool rectified;
};

struct NetworkLoops {
  int columns;  // groups that `multiply` takes at most

  // results[row][group * 16 + lane] of `count` rows, 1 to kRows, and `groups` groups, 1 to columns.
  void (*multiply)(const Product& product, int count, int groups);

  // The tile of (tile + 2)^2 pixels at source as Winograd's numbers: those of one place lie `apart` from the next's.
  // line: from one row of pixels to the next. channels: a multiple of 16.
  void (*into)(float* destination, std::ptrdiff_t apart, const float* source, std::ptrdiff_t line,
               std::ptrdiff_t channels, int tile);

  // And back: tile^2 pixels, with bias, what is added (null: nothing; laid out as the destination) and rectifier.
  void (*out_of)(float* destination, std::ptrdiff_t line, const float* source, std::ptrdiff_t apart,
                 std::ptrdiff_t channels, int tile, const float* bias, const float* added, bool rectified);

  // destination[copy * channels + c] = bias[...] + sum over pixels of source[pixel * channels + c] * weights[...]; both
  // are laid out as the destination, weights a pixel after the other.
  void (*whole)(float* destination, const float* source, std::ptrdiff_t pixels, std::ptrdiff_t channels, int copies,
                const float* weights, const float* bias, bool rectified);
};

const NetworkLoops& network_loops() noexcept;

// For tests, as of kernels.hpp.
bool use_network_loops(SimdLevel level) noexcept;

// Whether this machine multiplies and adds vectors in one instruction: without, networks are slow here.
bool fast_networks() noexcept;

}  // namespace firewall
