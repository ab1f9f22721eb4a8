// Scaling as a block program. The definition is firewall/scale.h.
#pragma once

#include "../cpu/scale.hpp"
#include "resample.hpp"

namespace firewall::cuda::scale {

// What one factor does to both sides.
struct Factor {
  Axis across, down;
  int left, top;  // of the window in the result
};

struct Task {
  int width, height, factors_count;
  int tiles_across, tiles;                  // of a copy
  std::ptrdiff_t row_stride, image_stride;  // bytes of the source
  const std::uint8_t* source;
  const Factor* factors;
  const std::int32_t* pool;  // of the factors' axes
  std::uint8_t* destination;
};

// One tile of one copy. index: tile, then factor, then image.
template <typename Block>
FIREWALL_DEVICE void resize(Block& block, const Task& task, int index, ResampleMemory& memory) {
  const int copy = index / task.tiles, tile = index - copy * task.tiles;
  const int image = copy / task.factors_count;
  const Factor& factor = task.factors[copy - image * task.factors_count];
  const int row = tile / task.tiles_across;
  const int top = row * kResampleHeight, left = (tile - row * task.tiles_across) * kResampleWidth;
  const int bottom = smaller(top + kResampleHeight, task.height), right = smaller(left + kResampleWidth, task.width);
  // What of the window is in the tile, seen from the window.
  const Rectangle part = {larger(left - factor.left, 0), larger(top - factor.top, 0),
                          smaller(right - factor.left, factor.across.window),
                          smaller(bottom - factor.top, factor.down.window)};
  const bool any = part.left < part.right && part.top < part.bottom;
  if (any) {
    resample(block, task.source + image * task.image_stride, task.row_stride, task.pool, factor.across, factor.down,
             part, memory);
  }
  // The part's place in the tile, in bytes and rows.
  const int first_byte = 3 * (part.left + factor.left - left), last_byte = 3 * (part.right + factor.left - left);
  const int first_row = part.top + factor.top - top, last_row = part.bottom + factor.top - top;
  const std::ptrdiff_t pitch = std::ptrdiff_t{3} * task.width;
  std::uint8_t* to = task.destination + (static_cast<std::ptrdiff_t>(copy) * task.height + top) * pitch + 3 * left;
  const int bytes = 3 * (right - left);
  const Divisor by_bytes(bytes);
  const std::int32_t* sums = memory.sums;
  block.each((bottom - top) * bytes, [=](int i) {
    const int y = by_bytes.quotient(i), byte = by_bytes.remainder(i, y);
    const bool inside = any && y >= first_row && y < last_row && byte >= first_byte && byte < last_byte;
    to[y * pitch + byte] =
        inside ? byte_of(sums[(y - first_row) * kResamplePitch + byte - first_byte]) : std::uint8_t{0};
  });
}

// --- on the host
// ------------------------------------------------------------------------------------------------------

// All but the pointers and the strides.
inline Task make_task(int height, int width, int factors) {
  Task task{};
  task.width = width;
  task.height = height;
  task.factors_count = factors;
  task.tiles_across = (width + kResampleWidth - 1) / kResampleWidth;
  task.tiles = static_cast<int>(resample_tiles(height, width));
  return task;
}

// Adds the taps of all factors to a pool.
inline std::vector<Factor> make_factors(std::vector<std::int32_t>& pool, const double* factors, int count, int height,
                                        int width, int filter) {
  std::vector<Factor> out;
  out.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    const Side down = side_of(height, factors[i]), across = side_of(width, factors[i]);
    out.push_back({add_axis(pool, width, across.scaled, across.start, across.window, filter),
                   add_axis(pool, height, down.scaled, down.start, down.window, filter), across.margin, down.margin});
  }
  return out;
}

// FIREWALL_OK if a plan can be made.
inline int check_scale(const Shape& shape, const double* factors, int filter) noexcept {
  const int status = check_plan(shape, factors);
  if (status != FIREWALL_OK) return status;
  if (!known_filter(filter)) return FIREWALL_BAD_PARAMETER;
  for (std::int32_t i = 0; i < shape.parameters; ++i) {
    if (!allowed_factor(factors[i])) return FIREWALL_BAD_PARAMETER;
  }
  return grid_of(resample_tiles(shape.height, shape.width), shape.parameters, shape.count) > 0 ? FIREWALL_OK
                                                                                               : FIREWALL_BAD_SIZE;
}

}  // namespace firewall::cuda::scale
