// The kernels, compiled once for each instruction set: FIREWALL_ISA is the namespace, FIREWALL_LOOPS_... the set.
#include "kernels.hpp"
#include "vector.hpp"

namespace firewall {
namespace FIREWALL_ISA {
namespace {

// kStep lanes. An odd last tap is a pair of its own: its second half reads the same bytes again, with weight 0.
template <bool odd>
inline void weigh_block(std::uint8_t* destination, const std::uint8_t* source, std::ptrdiff_t stride,
                        const Weights* weights, int pairs) {
  Sum sum;
  for (int k = 0; k < pairs - (odd ? 1 : 0); ++k) {
    sum.add(source, source + stride, weights[k]);
    source += 2 * stride;
  }
  if (odd) sum.add(source, source, weights[pairs - 1]);
  sum.store(destination);
}

template <bool odd>
void weigh_blocks(std::uint8_t* destination, const std::uint8_t* source, std::ptrdiff_t stride, const Weights* weights,
                  int pairs, std::size_t lanes) {
  // The last block ends where the lanes end, and does some of them twice.
  for (std::size_t i = 0; i < lanes; i += kStep) {
    const std::size_t at = i + kStep <= lanes ? i : lanes - kStep;
    weigh_block<odd>(destination + at, source + at, stride, weights, pairs);
  }
}

void weigh_lane(std::uint8_t* destination, const std::uint8_t* source, std::ptrdiff_t stride,
                const std::int32_t* weights, int taps) {
  std::int32_t sum = kHalfWeight;
  for (int k = 0; k < taps; ++k) sum += weights[k] * source[k * stride];
  sum >>= kWeightBits;
  *destination = static_cast<std::uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

void weigh(std::uint8_t* destination, const std::uint8_t* source, std::ptrdiff_t stride, const std::int32_t* weights,
           int taps, std::size_t lanes) {
  // More taps only where an image is made more than ten times smaller.
  constexpr int kMostPairs = 24;
  if (lanes < kStep || taps > 2 * kMostPairs) {
    for (std::size_t i = 0; i < lanes; ++i) weigh_lane(destination + i, source + i, stride, weights, taps);
    return;
  }
  Weights prepared[kMostPairs];
  const int pairs = (taps + 1) / 2;
  for (int k = 0; k < pairs; ++k) prepared[k] = Weights::of(weights[2 * k], 2 * k + 1 < taps ? weights[2 * k + 1] : 0);
  (taps % 2 == 0 ? weigh_blocks<false> : weigh_blocks<true>)(destination, source, stride, prepared, pairs, lanes);
}

// One box blur of kStep lanes.
void box_pass(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
              std::ptrdiff_t source_stride, int lines, int radius, const BoxWeights& weights) {
  const int last = lines - 1;
  const auto line = [=](int y) { return source + (y < 0 ? 0 : y > last ? last : y) * source_stride; };
  Bytes inner = Bytes::none();
  for (int y = -radius; y <= radius; ++y) inner = inner + Bytes::load(line(y));
  Bytes before = Bytes::load(line(-radius - 1));
  for (int y = 0; y < lines; ++y) {
    const Bytes after = Bytes::load(line(y + radius + 1));
    box_store(destination, inner, before + after, weights);
    before = Bytes::load(line(y - radius));
    inner = inner + after - before;
    destination += destination_stride;
  }
}

void box_blur_block(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
                    std::ptrdiff_t source_stride, int lines, const Box& box, std::uint8_t* columns) {
  constexpr auto kStride = static_cast<std::ptrdiff_t>(kStep);
  std::uint8_t* first = columns;
  std::uint8_t* second = columns + kStride * lines;
  const BoxWeights weights(box);
  box_pass(first, kStride, source, source_stride, lines, box.radius, weights);
  box_pass(second, kStride, first, kStride, lines, box.radius, weights);
  box_pass(destination, destination_stride, second, kStride, lines, box.radius, weights);
}

void box_blur(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
              std::ptrdiff_t source_stride, int lines, std::size_t lanes, Box box, std::uint8_t* columns) {
  static_assert(kStep <= 64, "box_columns_size is for 64 lanes");
  if (lanes < kStep) {
    constexpr auto kStride = static_cast<std::ptrdiff_t>(kStep);
    std::uint8_t* first = columns;
    std::uint8_t* second = columns + kStride * lines;
    const BoxWeights weights(box);
    for (int y = 0; y < lines; ++y) {
      std::memset(second + y * kStride, 0, kStep);
      std::memcpy(second + y * kStride, source + y * source_stride, lanes);
    }
    box_pass(first, kStride, second, kStride, lines, box.radius, weights);
    box_pass(second, kStride, first, kStride, lines, box.radius, weights);
    box_pass(first, kStride, second, kStride, lines, box.radius, weights);
    for (int y = 0; y < lines; ++y) std::memcpy(destination + y * destination_stride, first + y * kStride, lanes);
    return;
  }
  std::size_t i = 0;
  for (; i + kStep <= lanes; i += kStep) {
    box_blur_block(destination + i, destination_stride, source + i, source_stride, lines, box, columns);
  }
  if (i < lanes) {
    i = lanes - kStep;
    box_blur_block(destination + i, destination_stride, source + i, source_stride, lines, box, columns);
  }
}

constexpr std::size_t kTile = 16;
typedef std::uint8_t Row __attribute__((vector_size(16)));

#if defined(__clang__)
#define FIREWALL_ZIP(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FIREWALL_ZIP(a, b, ...) __builtin_shuffle(a, b, Row{__VA_ARGS__})
#endif

void transpose_tile(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
                    std::ptrdiff_t source_stride) {
  Row rows[kTile];
  for (std::size_t y = 0; y < kTile; ++y) {
    std::memcpy(&rows[y], source + static_cast<std::ptrdiff_t>(y) * source_stride, sizeof(Row));
  }
  // Zipping row y with row y + 8, four times, sends row y to column y.
  for (int step = 0; step < 4; ++step) {
    Row zipped[kTile];
    for (std::size_t y = 0; y < kTile / 2; ++y) {
      zipped[2 * y] = FIREWALL_ZIP(rows[y], rows[y + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      zipped[2 * y + 1] =
          FIREWALL_ZIP(rows[y], rows[y + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    std::memcpy(rows, zipped, sizeof(rows));
  }
  for (std::size_t x = 0; x < kTile; ++x) {
    std::memcpy(destination + static_cast<std::ptrdiff_t>(x) * destination_stride, &rows[x], sizeof(Row));
  }
}

void transpose(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
               std::ptrdiff_t source_stride, std::size_t rows, std::size_t columns) {
  if (rows < kTile || columns < kTile) {
    for (std::size_t y = 0; y < rows; ++y) {
      for (std::size_t x = 0; x < columns; ++x) {
        destination[static_cast<std::ptrdiff_t>(x) * destination_stride + static_cast<std::ptrdiff_t>(y)] =
            source[static_cast<std::ptrdiff_t>(y) * source_stride + static_cast<std::ptrdiff_t>(x)];
      }
    }
    return;
  }
  // The last tiles end where the rows and columns end, and do some of them twice.
  for (std::size_t y = 0; y < rows; y += kTile) {
    const auto top = static_cast<std::ptrdiff_t>(y + kTile <= rows ? y : rows - kTile);
    for (std::size_t x = 0; x < columns; x += kTile) {
      const auto left = static_cast<std::ptrdiff_t>(x + kTile <= columns ? x : columns - kTile);
      transpose_tile(destination + left * destination_stride + top, destination_stride,
                     source + top * source_stride + left, source_stride);
    }
  }
}

void planes_pixel(float* destination, std::size_t plane, const std::uint8_t* pixel, const float* scale,
                  const float* shift) {
  for (std::size_t c = 0; c < 3; ++c) destination[c * plane] = static_cast<float>(pixel[c]) * scale[c] + shift[c];
}

void numbers_of(float* destination, const Row& values, float scale, float shift) {
  for (std::size_t i = 0; i < kTile; ++i) destination[i] = static_cast<float>(values[i]) * scale + shift;
}

void planes(float* destination, std::size_t plane, const std::uint8_t* source, std::size_t width, const float* scale,
            const float* shift) {
  std::size_t x = 0;
  for (; x + kTile <= width; x += kTile) {
    // 16 pixels are three vectors of bytes; each colour is gathered from the first two, then from the third.
    Row rows[3];
    std::memcpy(rows, source + 3 * x, sizeof(rows));
    const Row red = FIREWALL_ZIP(rows[0], rows[1], 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0);
    const Row green = FIREWALL_ZIP(rows[0], rows[1], 1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0);
    const Row blue = FIREWALL_ZIP(rows[0], rows[1], 2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0);
    numbers_of(destination + x, FIREWALL_ZIP(red, rows[2], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29),
               scale[0], shift[0]);
    numbers_of(destination + plane + x,
               FIREWALL_ZIP(green, rows[2], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30), scale[1], shift[1]);
    numbers_of(destination + 2 * plane + x,
               FIREWALL_ZIP(blue, rows[2], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31), scale[2], shift[2]);
  }
  for (; x < width; ++x) planes_pixel(destination + x, plane, source + 3 * x, scale, shift);
}

#undef FIREWALL_ZIP

}  // namespace

extern const Kernels table;
const Kernels table = {weigh, box_blur, transpose, planes};

}  // namespace FIREWALL_ISA
}  // namespace firewall
