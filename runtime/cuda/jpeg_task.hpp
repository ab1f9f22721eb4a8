// How a sweep is divided among blocks of threads. Made on the host; the kernels get it as an argument.
//
// A tile is a rectangle of one image; one block of threads does one tile at one quality. Coefficients lie in device
// memory from the first kernel (`prepare`, once for each image) to the second (`render`, for each image and quality).
#pragma once

#include <cmath>
#include <vector>

#include "../cpu/jpeg/quantisation.hpp"
#include "checks.hpp"
#include "firewall/jpeg_sweep.h"
#include "jpeg_dct.hpp"

namespace firewall::cuda::jpeg {

// The width is the largest for which a block of threads needs less than 48 KiB of shared memory; an image of 224 pixels
// is one tile wide. Taller tiles would compute fewer rows of chroma twice, but leave less work to share.
constexpr int kTileWidth = 224;
constexpr int kTileHeight = 32;

constexpr int kRun = 4;  // pixels that a thread colours at a time; kTileWidth is a multiple

// Y, or Cb and Cr.
struct Component {
  int across, down;   // full-size columns and rows for one sample
  int columns, rows;  // samples, without what fills the last blocks
  int block_columns, block_rows;
};

// Shared memory of a block of threads that renders, in bytes from its start; everything is aligned to 16.
struct Canvas {
  int luma, blue, red;  // samples
  int luma_pitch, chroma_pitch;
  int steps;  // 2 x 64
  int work;   // blocks between the two passes of the DCT; then pixels of three bytes on their way out
  int size;
};

struct Task {
  int width, height, channels;
  std::ptrdiff_t row_stride, image_stride;  // bytes of the source
  Component luma, chroma;                   // chroma: all zero if grey
  bool fancy;                               // chroma is enlarged with the triangle filter, else repeated
  int halo_columns, halo_rows;              // 1 where that filter needs a sample beyond the tile, else 0
  int tile_width;                           // a multiple of 16
  int tiles_across, tiles;                  // of an image
  int qualities;
  int blocks;  // of coefficients of an image: Y, then Cb, then Cr
  const std::uint8_t* source;
  Eight* coefficients;  // count x blocks x 8 columns
  const Step* steps;    // qualities x 2 tables x 64, in the order of the coefficients
  void* destination;
  float scale[3], shift[3];
  Canvas canvas;
  int prepare_memory;  // of a block of threads that prepares: blocks between the two passes of the DCT
};

// --- on the host
// ------------------------------------------------------------------------------------------------------

inline int blocks_of(int samples) { return (samples + 7) / 8; }

// What `render` needs; bytes: for uint8.
inline Canvas canvas_of(const Task& task, bool bytes) {
  Canvas canvas{};
  canvas.luma_pitch = task.tile_width;
  int work = task.tile_width / 8 * (kTileHeight / 8);
  canvas.luma = 0;
  int used = canvas.luma_pitch * kTileHeight;
  if (task.channels == 3) {
    // One sample beyond the tile on either side may need a whole block.
    const int block_columns = blocks_of(task.tile_width / task.chroma.across) + 2 * task.halo_columns;
    const int block_rows = blocks_of(kTileHeight / task.chroma.down) + 2 * task.halo_rows;
    const int rows = kTileHeight / task.chroma.down + 2 * task.halo_rows;
    canvas.chroma_pitch = 8 * block_columns;
    canvas.blue = used;
    canvas.red = used + (canvas.chroma_pitch * rows + 15) / 16 * 16;
    used = canvas.red + (canvas.chroma_pitch * rows + 15) / 16 * 16;
    work = work > block_columns * block_rows ? work : block_columns * block_rows;
  }
  canvas.steps = used;
  canvas.work = used + 2 * 64 * static_cast<int>(sizeof(Step));
  const int blocks_size = work * kBlockRows * static_cast<int>(sizeof(Eight));
  const int pixels_size = bytes ? task.channels * task.tile_width * kTileHeight : 0;
  canvas.size = canvas.work + (blocks_size > pixels_size ? blocks_size : pixels_size);
  return canvas;
}

// What `prepare` needs: the blocks of a tile between the two passes; chroma has two for each.
inline int prepare_memory_of(const Task& task) {
  const int luma = task.tile_width / 8 * (kTileHeight / 8);
  const int chroma = task.channels == 1 ? 0
                                        : 2 * blocks_of(task.tile_width / task.chroma.across) *
                                              blocks_of(kTileHeight / task.chroma.down);
  return (luma > chroma ? luma : chroma) * kBlockRows * static_cast<int>(sizeof(Eight));
}

inline Component component_of(int width, int height, int across, int down) {
  Component out{};
  out.across = across;
  out.down = down;
  out.columns = (width + across - 1) / across;
  out.rows = (height + down - 1) / down;
  out.block_columns = (out.columns + 7) / 8;
  out.block_rows = (out.rows + 7) / 8;
  return out;
}

// All but the pointers and the strides.
inline Task make_task(int height, int width, int qualities, const firewall_jpeg_options& options) {
  Task task{};
  task.width = width;
  task.height = height;
  task.qualities = qualities;
  task.luma = component_of(width, height, 1, 1);
  task.channels = options.sampling == FIREWALL_JPEG_GREY ? 1 : 3;
  task.blocks = task.luma.block_columns * task.luma.block_rows;
  if (task.channels == 3) {
    const int across = options.sampling == FIREWALL_JPEG_444 ? 1 : 2;
    const int down = options.sampling == FIREWALL_JPEG_420 ? 2 : 1;
    task.chroma = component_of(width, height, across, down);
    task.blocks += 2 * task.chroma.block_columns * task.chroma.block_rows;
    task.fancy = task.chroma.columns > 2;  // libjpeg repeats chroma of one or two columns
    task.halo_rows = down == 2 && task.fancy ? 1 : 0;
  }
  const int columns = (width + 15) / 16;
  task.tiles_across = (16 * columns + kTileWidth - 1) / kTileWidth;
  task.tile_width = 16 * ((columns + task.tiles_across - 1) / task.tiles_across);
  task.halo_columns = task.fancy && task.chroma.across == 2 && task.tiles_across > 1 ? 1 : 0;
  task.tiles = task.tiles_across * ((height + kTileHeight - 1) / kTileHeight);
  for (int c = 0; c < task.channels && options.format != FIREWALL_JPEG_UINT8; ++c) {
    task.scale[c] = static_cast<float>(1.0 / (255.0 * options.std[c]));
    task.shift[c] = static_cast<float>(-options.mean[c] / options.std[c]);
  }
  task.canvas = canvas_of(task, options.format == FIREWALL_JPEG_UINT8);
  task.prepare_memory = prepare_memory_of(task);
  return task;
}

// The tables of all qualities; inside a block coefficients lie column by column.
inline std::vector<Step> make_steps(const std::int32_t* qualities, int count) {
  std::vector<Step> steps;
  steps.reserve(static_cast<std::size_t>(count) * 128);
  for (int i = 0; i < count; ++i) {
    for (int table = 0; table < 2; ++table) {
      for (int column = 0; column < 8; ++column) {
        for (int row = 0; row < 8; ++row) {
          steps.push_back(step_of(firewall::jpeg::table_entry(table, qualities[i], row, column)));
        }
      }
    }
  }
  return steps;
}

// FIREWALL_OK, and the shape, if a plan can be made.
inline int check_sweep(Shape& shape, std::int32_t count, std::int32_t height, std::int32_t width,
                       const std::int32_t* qualities, std::int32_t qualities_count,
                       const firewall_jpeg_options* options) noexcept {
  if (options == nullptr) return FIREWALL_NULL_POINTER;
  if (options->sampling < FIREWALL_JPEG_444 || options->sampling > FIREWALL_JPEG_GREY ||
      options->format < FIREWALL_JPEG_UINT8 || options->format > FIREWALL_JPEG_FLOAT16) {
    return FIREWALL_BAD_PARAMETER;
  }
  const std::int32_t channels = options->sampling == FIREWALL_JPEG_GREY ? 1 : 3;
  for (int c = 0; c < channels && options->format != FIREWALL_JPEG_UINT8; ++c) {
    if (!std::isfinite(options->mean[c]) || !std::isfinite(options->std[c]) || options->std[c] <= 0) {
      return FIREWALL_BAD_PARAMETER;
    }
  }
  const bool same_size = (options->result_height == 0 && options->result_width == 0) ||
                         (options->result_height == height && options->result_width == width);
  if (!same_size) return FIREWALL_BAD_PARAMETER;
  const std::int32_t value_size = options->format == FIREWALL_JPEG_UINT8     ? 1
                                  : options->format == FIREWALL_JPEG_FLOAT32 ? 4
                                                                             : 2;
  shape = {count, height, width, channels, qualities_count, value_size};
  const int status = check_plan(shape, qualities);
  if (status != FIREWALL_OK) return status;
  for (std::int32_t i = 0; i < qualities_count; ++i) {
    if (qualities[i] < 1 || qualities[i] > 100) return FIREWALL_BAD_PARAMETER;
  }
  const Task task = make_task(height, width, qualities_count, *options);
  return grid_of(task.tiles, qualities_count, count) > 0 ? FIREWALL_OK : FIREWALL_BAD_SIZE;
}

}  // namespace firewall::cuda::jpeg
