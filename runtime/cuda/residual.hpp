// The residual image as two block programs: `shrink` makes the small images, `compare` enlarges them and subtracts. The
// definition is firewall/residual.h.
#pragma once

#include "../cpu/residual.hpp"
#include "firewall/residual.h"
#include "resample.hpp"

namespace firewall::cuda::residual {

// What one share does to both sides.
struct Share {
  Axis across_down, down_down, across_up, down_up;  // of the small image, then of the enlarged one
  std::ptrdiff_t small;                             // where the small image begins among those of an image
};

// One tile of a small image.
struct Tile {
  int share, left, top;
};

struct Task {
  int width, height, shares_count;
  int small_tiles;                          // of all small images of an image
  int tiles_across, tiles;                  // of a copy
  std::ptrdiff_t row_stride, image_stride;  // bytes of the source
  std::ptrdiff_t small_size;                // bytes of all small images of an image
  const std::uint8_t* source;
  const Share* shares;
  const Tile* small_tile;
  const std::int32_t* pool;  // of the shares' axes
  std::uint8_t* small;       // count x small_size
  void* destination;
};

// index: tile of a small image, then image.
template <typename Block>
FIREWALL_DEVICE void shrink(Block& block, const Task& task, int index, ResampleMemory& memory) {
  const int image = index / task.small_tiles;
  const Tile tile = task.small_tile[index - image * task.small_tiles];
  const Share& share = task.shares[tile.share];
  const int width = share.across_down.window, height = share.down_down.window;
  const Rectangle part = {tile.left, tile.top, smaller(tile.left + kResampleWidth, width),
                          smaller(tile.top + kResampleHeight, height)};
  resample(block, task.source + image * task.image_stride, task.row_stride, task.pool, share.across_down,
           share.down_down, part, memory);
  std::uint8_t* to = task.small + image * task.small_size + share.small +
                     (static_cast<std::ptrdiff_t>(part.top) * width + part.left) * 3;
  const int bytes = 3 * (part.right - part.left);
  const Divisor by_bytes(bytes);
  const std::int32_t* sums = memory.sums;
  block.each((part.bottom - part.top) * bytes, [=](int i) {
    const int y = by_bytes.quotient(i), byte = by_bytes.remainder(i, y);
    to[y * 3 * width + byte] = byte_of(sums[y * kResamplePitch + byte]);
  });
}

FIREWALL_DEVICE inline void put(std::int16_t& to, int difference) { to = static_cast<std::int16_t>(difference); }

FIREWALL_DEVICE inline void put(std::uint8_t& to, int difference) {
  to = static_cast<std::uint8_t>(between(0, 128 + difference, 255));
}

// One tile of one copy. Value: std::int16_t, or std::uint8_t for residuals coded in a byte. index: tile, then share,
// then image.
template <typename Value, typename Block>
FIREWALL_DEVICE void compare(Block& block, const Task& task, int index, ResampleMemory& memory) {
  const int copy = index / task.tiles, tile = index - copy * task.tiles;
  const int image = copy / task.shares_count;
  const Share& share = task.shares[copy - image * task.shares_count];
  const int row = tile / task.tiles_across;
  const int top = row * kResampleHeight, left = (tile - row * task.tiles_across) * kResampleWidth;
  const Rectangle part = {left, top, smaller(left + kResampleWidth, task.width),
                          smaller(top + kResampleHeight, task.height)};
  resample(block, task.small + image * task.small_size + share.small, std::ptrdiff_t{3} * share.across_down.window,
           task.pool, share.across_up, share.down_up, part, memory);
  const std::uint8_t* original = task.source + image * task.image_stride + top * task.row_stride + 3 * left;
  const std::ptrdiff_t stride = task.row_stride, pitch = std::ptrdiff_t{3} * task.width;
  Value* to = static_cast<Value*>(task.destination) + (static_cast<std::ptrdiff_t>(copy) * task.height + top) * pitch +
              3 * left;
  const int bytes = 3 * (part.right - part.left);
  const Divisor by_bytes(bytes);
  const std::int32_t* sums = memory.sums;
  block.each((part.bottom - part.top) * bytes, [=](int i) {
    const int y = by_bytes.quotient(i), byte = by_bytes.remainder(i, y);
    put(to[y * pitch + byte], original[y * stride + byte] - byte_of(sums[y * kResamplePitch + byte]));
  });
}

// --- on the host
// ------------------------------------------------------------------------------------------------------

// What a plan puts into device memory.
struct Tables {
  std::vector<Share> shares;
  std::vector<Tile> small_tiles;
  std::vector<std::int32_t> pool;
};

// All but the pointers and the strides.
inline Task make_task(Tables& tables, int height, int width, const double* shares, int count, int down, int up) {
  Task task{};
  task.width = width;
  task.height = height;
  task.shares_count = count;
  task.tiles_across = (width + kResampleWidth - 1) / kResampleWidth;
  task.tiles = static_cast<int>(resample_tiles(height, width));
  for (int i = 0; i < count; ++i) {
    const std::int32_t small_height = kept_pixels(height, shares[i]), small_width = kept_pixels(width, shares[i]);
    tables.shares.push_back({add_axis(tables.pool, width, small_width, 0, small_width, down),
                             add_axis(tables.pool, height, small_height, 0, small_height, down),
                             add_axis(tables.pool, small_width, width, 0, width, up),
                             add_axis(tables.pool, small_height, height, 0, height, up), task.small_size});
    task.small_size += static_cast<std::ptrdiff_t>(small_height) * small_width * 3;
    for (int top = 0; top < small_height; top += kResampleHeight) {
      for (int left = 0; left < small_width; left += kResampleWidth) tables.small_tiles.push_back({i, left, top});
    }
  }
  task.small_tiles = static_cast<int>(tables.small_tiles.size());
  return task;
}

// FIREWALL_OK if a plan can be made.
inline int check_residual(const Shape& shape, const double* shares, int down, int up) noexcept {
  const int status = check_plan(shape, shares);
  if (status != FIREWALL_OK) return status;
  if (!known_filter(down) || !known_filter(up)) return FIREWALL_BAD_PARAMETER;
  for (std::int32_t i = 0; i < shape.parameters; ++i) {
    if (!allowed_share(shares[i])) return FIREWALL_BAD_PARAMETER;
  }
  // No image has more small tiles than tiles.
  return grid_of(resample_tiles(shape.height, shape.width), shape.parameters, shape.count) > 0 ? FIREWALL_OK
                                                                                               : FIREWALL_BAD_SIZE;
}

}  // namespace firewall::cuda::residual
