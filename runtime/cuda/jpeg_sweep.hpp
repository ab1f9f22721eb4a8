// The two kernels of the JPEG sweep as block programs. The definition is firewall/jpeg_sweep.h, the same arithmetic in
// vectors is cpu/jpeg/.
#pragma once

#include "jpeg_task.hpp"

namespace firewall::cuda::jpeg {

// The part of a component that a block of threads works on.
struct Region {
  int block_column, block_row;    // the first
  int block_columns, block_rows;  // how many
  int row, rows;                  // rows of samples that are wanted; columns are those of the blocks

  FIREWALL_DEVICE int blocks() const { return block_columns * block_rows; }
};

// Samples first_column..last_column, first_row..last_row, cut to the component.
FIREWALL_DEVICE inline Region region_of(const Component& of, int first_column, int last_column, int first_row,
                                        int last_row) {
  first_column = larger(first_column, 0);
  last_column = smaller(last_column, of.columns - 1);
  first_row = larger(first_row, 0);
  last_row = smaller(last_row, of.rows - 1);
  Region region;
  region.block_column = first_column / 8;
  region.block_row = first_row / 8;
  region.block_columns = last_column / 8 - region.block_column + 1;
  region.block_rows = last_row / 8 - region.block_row + 1;
  region.row = first_row;
  region.rows = last_row - first_row + 1;
  return region;
}

struct Tile {
  int left, top, width, height;  // in pixels, inside the image
};

FIREWALL_DEVICE inline Tile tile_of(const Task& task, int index) {
  const int row = index / task.tiles_across;
  Tile tile;
  tile.left = (index - row * task.tiles_across) * task.tile_width;
  tile.top = row * kTileHeight;
  tile.width = smaller(task.tile_width, task.width - tile.left);
  tile.height = smaller(kTileHeight, task.height - tile.top);
  return tile;
}

// The samples of a component for a tile, and `halo_...` more on each side.
FIREWALL_DEVICE inline Region region_of(const Component& of, const Tile& tile, int halo_columns, int halo_rows) {
  return region_of(of, tile.left / of.across - halo_columns, (tile.left + tile.width - 1) / of.across + halo_columns,
                   tile.top / of.down - halo_rows, (tile.top + tile.height - 1) / of.down + halo_rows);
}

// --- prepare: colour, downsampling and forward DCT
// ---------------------------------------------------------------------

// One pixel, cut to the image.
FIREWALL_DEVICE inline const std::uint8_t* pixel(const Task& task, const std::uint8_t* image, int row, int column) {
  return image + smaller(row, task.height - 1) * task.row_stride + task.channels * smaller(column, task.width - 1);
}

FIREWALL_DEVICE inline int luma_of(const std::uint8_t* rgb) {
  return ((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16) - 128;
}

FIREWALL_DEVICE inline int blue_of(const std::uint8_t* rgb) {
  return (32768 * rgb[2] - 11059 * rgb[0] - 21709 * rgb[1] + 32767) >> 16;
}

FIREWALL_DEVICE inline int red_of(const std::uint8_t* rgb) {
  return (32768 * rgb[0] - 27439 * rgb[1] - 5329 * rgb[2] + 32767) >> 16;
}

// The eight samples of Cb and Cr from `column` on. To the right the image is continued with its last pixel and then
// made smaller; at the bottom an odd row is repeated, made smaller, and then the last row of samples is repeated.
FIREWALL_DEVICE inline void chroma_row(const Task& task, const std::uint8_t* image, int row, int column, int (&blue)[8],
                                       int (&red)[8]) {
  const Component& of = task.chroma;
  const int top = smaller(row, of.rows - 1) * of.down;
  for (int i = 0; i < 8; ++i) {
    int blues = 0, reds = 0;
    for (int y = top; y < top + of.down; ++y) {
      for (int x = (column + i) * of.across; x < (column + i + 1) * of.across; ++x) {
        const std::uint8_t* rgb = pixel(task, image, y, x);
        blues += blue_of(rgb);
        reds += red_of(rgb);
      }
    }
    // Halves are rounded down and up in turn.
    const int bias = of.down == 2 ? 1 + i % 2 : of.across == 2 ? i % 2 : 0;
    const int shift = of.down + of.across - 2;
    blue[i] = (blues + bias) >> shift;
    red[i] = (reds + bias) >> shift;
  }
}

// The second pass and the way out. work: `count` blocks after the first pass, of the region's blocks in order.
template <typename Block>
FIREWALL_DEVICE void forward_columns(Block& block, const Region& region, const Component& of, const Eight* work,
                                     Eight* coefficients) {
  const Divisor by_columns(region.block_columns);
  block.each(8 * region.blocks(), [=](int i) {
    const int index = i / 8, column = i % 8;
    const int block_row = by_columns.quotient(index);
    const int block_column = by_columns.remainder(index, block_row);
    int v[8];
    for (int r = 0; r < 8; ++r) v[r] = work[index * kBlockRows + r].at[column];
    const int to = (region.block_row + block_row) * of.block_columns + region.block_column + block_column;
    coefficients[8 * to + column] = forward<false>(v);
  });
}

// Coefficients of one tile of one image. index: tile, then image.
template <typename Block>
FIREWALL_DEVICE void prepare(Block& block, const Task& task, int index, unsigned char* shared) {
  const int number = index / task.tiles;
  const Tile tile = tile_of(task, index - number * task.tiles);
  const std::uint8_t* image = task.source + number * task.image_stride;
  Eight* coefficients = task.coefficients + static_cast<std::ptrdiff_t>(number) * task.blocks * 8;
  auto* work = reinterpret_cast<Eight*>(shared);

  const Region luma = region_of(task.luma, tile, 0, 0);
  const Divisor by_luma(luma.block_columns);
  // Neighbouring threads take neighbouring blocks of the same row of pixels.
  block.each(8 * luma.blocks(), [=, &task](int i) {
    const int row = by_luma.quotient(i);
    const int block_column = by_luma.remainder(i, row);
    int v[8];
    for (int x = 0; x < 8; ++x) {
      const std::uint8_t* at = pixel(task, image, 8 * luma.block_row + row, 8 * (luma.block_column + block_column) + x);
      v[x] = task.channels == 1 ? *at - 128 : luma_of(at);
    }
    work[(row / 8 * luma.block_columns + block_column) * kBlockRows + row % 8] = forward<true>(v);
  });
  forward_columns(block, luma, task.luma, work, coefficients);
  if (task.channels == 1) return;

  const Region chroma = region_of(task.chroma, tile, 0, 0);
  const Divisor by_chroma(chroma.block_columns);
  Eight* red_work = work + chroma.blocks() * kBlockRows;
  block.each(8 * chroma.blocks(), [=, &task](int i) {
    const int row = by_chroma.quotient(i);
    const int block_column = by_chroma.remainder(i, row);
    int blue[8], red[8];
    chroma_row(task, image, 8 * chroma.block_row + row, 8 * (chroma.block_column + block_column), blue, red);
    const int at = (row / 8 * chroma.block_columns + block_column) * kBlockRows + row % 8;
    work[at] = forward<true>(blue);
    red_work[at] = forward<true>(red);
  });
  coefficients += 8 * task.luma.block_columns * task.luma.block_rows;
  forward_columns(block, chroma, task.chroma, work, coefficients);
  forward_columns(block, chroma, task.chroma, red_work,
                  coefficients + 8 * task.chroma.block_columns * task.chroma.block_rows);
}

// --- render: quantisation, inverse DCT, upsampling, colour
// -------------------------------------------------------------

// A component's samples in shared memory.
struct Samples {
  const std::uint8_t* at;
  int pitch, row, column;  // of the first

  FIREWALL_DEVICE int operator()(int y, int x) const { return at[(y - row) * pitch + x - column]; }
};

// Samples of a region at one quality, written to `samples`.
template <typename Block>
FIREWALL_DEVICE Samples inverse_region(Block& block, const Region& region, const Component& of,
                                       const Eight* coefficients, const Step* steps, Eight* work, std::uint8_t* samples,
                                       int pitch) {
  const Divisor by_columns(region.block_columns);
  block.each(8 * region.blocks(), [=](int i) {
    const int index = i / 8, column = i % 8;
    const int block_row = by_columns.quotient(index);
    const int block_column = by_columns.remainder(index, block_row);
    const int from = (region.block_row + block_row) * of.block_columns + region.block_column + block_column;
    const Eight in = coefficients[8 * from + column];
    int x[8], out[8];
    for (int r = 0; r < 8; ++r) x[r] = quantised(in.at[r], steps[8 * column + r]);
    inverse(x, 1 << 10, out);
    for (int r = 0; r < 8; ++r) work[index * kBlockRows + r].at[column] = static_cast<std::int16_t>(out[r] >> 11);
  });
  block.each(region.rows * region.block_columns, [=](int i) {
    const int row = by_columns.quotient(i);
    const int block_column = by_columns.remainder(i, row);
    const int place = region.row + row - 8 * region.block_row;
    const Eight in = work[(place / 8 * region.block_columns + block_column) * kBlockRows + place % 8];
    int x[8], out[8];
    for (int c = 0; c < 8; ++c) x[c] = in.at[c];
    inverse(x, (128 << 18) + (1 << 17), out);
    Pack<std::uint8_t, 8> eight;
    for (int c = 0; c < 8; ++c) eight.at[c] = static_cast<std::uint8_t>(between(0, out[c] >> 18, 255));
    store(samples + row * pitch + 8 * block_column, eight);
  });
  return {samples, pitch, region.row, 8 * region.block_column};
}

// Cb or Cr, less 128, of the kRun pixels from column x of row y on. What lies behind the last column of the image is
// of no use to anybody, but inside the block.
FIREWALL_DEVICE inline void enlarge(const Task& task, const Samples& samples, int y, int x, int (&out)[kRun]) {
  const Component& of = task.chroma;
  if (of.across == 1) {
    for (int i = 0; i < kRun; ++i) out[i] = samples(y, x + i) - 128;
    return;
  }
  const int row = y / of.down, column = x / 2;
  if (!task.fancy) {
    for (int i = 0; i < kRun; ++i) out[i] = samples(row, column + i / 2) - 128;
    return;
  }
  int sums[kRun / 2 + 2];
  const bool both = of.down == 2;
  const int other = both ? between(0, y % 2 == 0 ? row - 1 : row + 1, of.rows - 1) : row;
  for (int i = 0; i < kRun / 2 + 2; ++i) {
    const int at = between(0, column - 1 + i, of.columns - 1);
    sums[i] = both ? 3 * samples(row, at) + samples(other, at) : samples(row, at);
  }
  // Halves are rounded up on the left and down on the right; without the rows it is the other way round.
  const int shift = both ? 4 : 2, left = both ? 8 : 1, right = both ? 7 : 2;
  for (int i = 0; i < kRun / 2; ++i) {
    const int thrice = 3 * sums[i + 1];
    out[2 * i] = ((thrice + sums[i] + left) >> shift) - 128;
    out[2 * i + 1] = ((thrice + sums[i + 2] + right) >> shift) - 128;
  }
}

// One channel of a run of pixels, as numbers.
template <typename Block>
FIREWALL_DEVICE inline void number(const Block&, float value, float scale, float shift, float& out) {
  out = Block::scaled(value, scale, shift);
}

template <typename Block>
FIREWALL_DEVICE inline void number(const Block&, float value, float scale, float shift, std::uint16_t& out) {
  out = Block::half(Block::scaled(value, scale, shift));
}

// Where the pixels of a tile go. Bytes are gathered in shared memory first: a thread has kRun pixels of three bytes.
template <typename Value>
struct Planes {
  Value* image;

  template <typename Block>
  FIREWALL_DEVICE void put(const Block& block, const Task& task, int channel, int y, int x,
                           const int (&values)[kRun]) const {
    Pack<Value, kRun> run;
    for (int i = 0; i < kRun; ++i) {
      number(block, static_cast<float>(between(0, values[i], 255)), task.scale[channel], task.shift[channel],
             run.at[i]);
    }
    store_run(image + static_cast<std::ptrdiff_t>(channel * task.height + y) * task.width + x, run, task.width - x);
  }
};

struct Pixels {
  std::uint8_t* stage;
  int pitch, channels, left, top;

  template <typename Block>
  FIREWALL_DEVICE void put(const Block&, const Task&, int channel, int y, int x, const int (&values)[kRun]) const {
    std::uint8_t* to = stage + (y - top) * pitch + (x - left) * channels + channel;
    for (int i = 0; i < kRun; ++i) to[i * channels] = static_cast<std::uint8_t>(between(0, values[i], 255));
  }
};

template <typename Block, typename Out>
FIREWALL_DEVICE void colour(Block& block, const Task& task, const Tile& tile, const Samples& luma, const Samples& blue,
                            const Samples& red, const Out& out) {
  const int runs = (tile.width + kRun - 1) / kRun;
  const Divisor across(runs);
  block.each(tile.height * runs, [=, &task, &block](int i) {
    const int row = across.quotient(i);
    const int y = tile.top + row, x = tile.left + kRun * across.remainder(i, row);
    int values[kRun], brightness[kRun], cb[kRun], cr[kRun];
    const Pack<std::uint8_t, kRun> four = load<kRun>(luma.at + (y - luma.row) * luma.pitch + x - luma.column);
    for (int k = 0; k < kRun; ++k) brightness[k] = four.at[k];
    if (task.channels == 1) return out.put(block, task, 0, y, x, brightness);
    enlarge(task, blue, y, x, cb);
    enlarge(task, red, y, x, cr);
    for (int k = 0; k < kRun; ++k) values[k] = brightness[k] + ((91881 * cr[k] + 32768) >> 16);
    out.put(block, task, 0, y, x, values);
    for (int k = 0; k < kRun; ++k) values[k] = brightness[k] + ((32768 - 22554 * cb[k] - 46802 * cr[k]) >> 16);
    out.put(block, task, 1, y, x, values);
    for (int k = 0; k < kRun; ++k) values[k] = brightness[k] + ((116130 * cb[k] + 32768) >> 16);
    out.put(block, task, 2, y, x, values);
  });
}

// A tile of a copy that begins at `to`.
template <typename Block, typename Value>
FIREWALL_DEVICE void write(Block& block, const Task& task, const Tile& tile, unsigned char*, const Samples& luma,
                           const Samples& blue, const Samples& red, Value* to) {
  colour(block, task, tile, luma, blue, red, Planes<Value>{to});
}

template <typename Block>
FIREWALL_DEVICE void write(Block& block, const Task& task, const Tile& tile, unsigned char* shared, const Samples& luma,
                           const Samples& blue, const Samples& red, std::uint8_t* to) {
  std::uint8_t* stage = shared + task.canvas.work;
  const int pitch = task.channels * task.tile_width;
  colour(block, task, tile, luma, blue, red, Pixels{stage, pitch, task.channels, tile.left, tile.top});
  const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(task.width) * task.channels;
  copy_rows(block, stage, pitch, to + tile.top * row + tile.left * task.channels, row, tile.height,
            tile.width * task.channels);
}

// One tile of one image at one quality. Value: std::uint8_t for pixels, float or std::uint16_t (float16) for planes.
// index: tile, then quality, then image, so that blocks of threads that run together share coefficients.
template <typename Value, typename Block>
FIREWALL_DEVICE void render(Block& block, const Task& task, int index, unsigned char* shared) {
  const int copy = index / task.tiles;
  const int image = copy / task.qualities;
  const Tile tile = tile_of(task, index - copy * task.tiles);
  const Canvas& canvas = task.canvas;
  auto* work = reinterpret_cast<Eight*>(shared + canvas.work);
  auto* steps = reinterpret_cast<Step*>(shared + canvas.steps);
  const Step* table = task.steps + (copy - image * task.qualities) * 128;
  block.each(128, [=](int i) { steps[i] = table[i]; });

  const Eight* coefficients = task.coefficients + static_cast<std::ptrdiff_t>(image) * task.blocks * 8;
  const Samples luma = inverse_region(block, region_of(task.luma, tile, 0, 0), task.luma, coefficients, steps, work,
                                      shared + canvas.luma, canvas.luma_pitch);
  Samples blue = luma, red = luma;
  if (task.channels == 3) {
    const Region chroma = region_of(task.chroma, tile, task.halo_columns, task.halo_rows);
    const Eight* blues = coefficients + 8 * task.luma.block_columns * task.luma.block_rows;
    const Eight* reds = blues + 8 * task.chroma.block_columns * task.chroma.block_rows;
    blue =
        inverse_region(block, chroma, task.chroma, blues, steps + 64, work, shared + canvas.blue, canvas.chroma_pitch);
    red = inverse_region(block, chroma, task.chroma, reds, steps + 64, work, shared + canvas.red, canvas.chroma_pitch);
  }
  const std::ptrdiff_t values = static_cast<std::ptrdiff_t>(task.height) * task.width * task.channels;
  write(block, task, tile, shared, luma, blue, red, static_cast<Value*>(task.destination) + copy * values);
}

}  // namespace firewall::cuda::jpeg
