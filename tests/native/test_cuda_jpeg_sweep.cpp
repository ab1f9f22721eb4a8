// The CUDA kernels of the JPEG sweep, run as block programs on the processor: the same bytes as the sweep of cpu/.
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "../../runtime/cuda/jpeg_sweep.hpp"
#include "cuda_host.hpp"
#include "expect.hpp"

namespace {

using namespace firewall::cuda;
using firewall::testing::HostBlock;
using firewall::testing::run_grid;
using Bytes = std::vector<std::uint8_t>;

constexpr int kMostShared = 48 * 1024;  // of a block of threads, on every GPU and without asking for more

std::uint32_t next(std::uint32_t& state) { return state = state * 1664525u + 1013904223u; }

// kind 0 noise, 1 black and white noise, 2 a slope with a little noise, 3 one colour.
Bytes picture(std::size_t bytes, int kind, std::uint32_t seed) {
  Bytes pixels(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    const std::uint32_t random = next(seed) >> 24;
    const std::uint32_t slope = (static_cast<std::uint32_t>(i) + random / 32) % 256;
    const std::uint32_t values[4] = {random, random < 128 ? 0u : 255u, slope, 200u};
    pixels[i] = static_cast<std::uint8_t>(values[kind]);
  }
  return pixels;
}

firewall_jpeg_options options_of(int sampling, int format) {
  firewall_jpeg_options options{};
  options.sampling = sampling;
  options.format = format;
  options.threads = 1;
  options.instructions = FIREWALL_JPEG_BEST;
  const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
  for (int c = 0; c < 3; ++c) {
    options.mean[c] = mean[c];
    options.std[c] = std[c];
  }
  return options;
}

Bytes by_cpu(const firewall_images& source, const std::vector<std::int32_t>& qualities,
             const firewall_jpeg_options& options) {
  const auto count = static_cast<std::int32_t>(qualities.size());
  Bytes out(firewall_jpeg_sweep_bytes(source.count, source.height, source.width, count, &options));
  Bytes scratch(firewall_jpeg_sweep_scratch(source.height, source.width, &options));
  EXPECT(firewall_jpeg_sweep(out.data(), out.size(), &source, qualities.data(), count, &options, scratch.data(),
                             scratch.size()) == FIREWALL_OK);
  return out;
}

template <typename Value>
void render(const jpeg::Task& task, int copies, bool backwards) {
  EXPECT(task.canvas.size <= kMostShared);
  run_grid(copies * task.tiles, task.canvas.size, backwards, [&](HostBlock& block, int index, unsigned char* memory) {
    jpeg::render<Value>(block, task, index, memory);
  });
}

// Every buffer is of exactly the size that the kernels may use, so that the sanitizers see one byte too many.
Bytes by_programs(const firewall_images& source, const std::vector<std::int32_t>& qualities,
                  const firewall_jpeg_options& options, bool backwards) {
  const auto count = static_cast<int>(qualities.size());
  jpeg::Task task = jpeg::make_task(source.height, source.width, count, options);
  const std::vector<jpeg::Step> steps = jpeg::make_steps(qualities.data(), count);
  std::vector<jpeg::Eight> coefficients(static_cast<std::size_t>(source.count) * static_cast<std::size_t>(task.blocks) *
                                        8);
  Bytes out(firewall_jpeg_sweep_bytes(source.count, source.height, source.width, count, &options), 7);
  task.source = source.data;
  task.row_stride = source.row_stride;
  task.image_stride = source.image_stride;
  task.coefficients = coefficients.data();
  task.steps = steps.data();
  task.destination = out.data();
  EXPECT(task.prepare_memory <= kMostShared);
  run_grid(source.count * task.tiles, task.prepare_memory, backwards,
           [&](HostBlock& block, int index, unsigned char* memory) { jpeg::prepare(block, task, index, memory); });
  const int copies = source.count * count;
  if (options.format == FIREWALL_JPEG_UINT8) render<std::uint8_t>(task, copies, backwards);
  if (options.format == FIREWALL_JPEG_FLOAT32) render<float>(task, copies, backwards);
  if (options.format == FIREWALL_JPEG_FLOAT16) render<std::uint16_t>(task, copies, backwards);
  return out;
}

int copies_compared = 0;

// Returns whether both are the same, in both orders of the threads.
bool same(int count, int height, int width, const std::vector<std::int32_t>& qualities, int sampling, int format,
          int number, int gap = 0) {
  const int channels = sampling == FIREWALL_JPEG_GREY ? 1 : 3;
  const std::ptrdiff_t row = std::ptrdiff_t{channels} * width + gap;
  const std::ptrdiff_t image = row * height + 2 * gap;
  const auto bytes = static_cast<std::size_t>(image * count - 3 * gap);
  const Bytes pixels = picture(bytes, number % 4, static_cast<std::uint32_t>(number));
  const firewall_images source = {pixels.data(), image, row, count, height, width};
  const firewall_jpeg_options options = options_of(sampling, format);
  const Bytes expected = by_cpu(source, qualities, options);
  copies_compared += count * static_cast<int>(qualities.size());
  return by_programs(source, qualities, options, false) == expected &&
         by_programs(source, qualities, options, true) == expected;
}

// Every size up to a few blocks, all samplings and formats: edges, odd sides, chroma that is repeated.
void test_small_sizes_equal_the_cpu() {
  constexpr int kSides[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65};
  int number = 0;
  for (const int height : kSides) {
    for (const int width : kSides) {
      for (int sampling = FIREWALL_JPEG_444; sampling <= FIREWALL_JPEG_GREY; ++sampling) {
        ++number;
        const std::vector<std::int32_t> qualities = {1 + number % 100, 100, 1 + number * 37 % 100};
        EXPECT(same(1, height, width, qualities, sampling, number % 3, number));
      }
    }
  }
}

// Images of several tiles along either side, whose edges fall on and beside the edges of tiles.
void test_large_sizes_equal_the_cpu() {
  constexpr int kSizes[][2] = {{1, 449},  {300, 1},  {33, 225}, {32, 224}, {224, 224}, {63, 240},
                               {97, 447}, {64, 448}, {95, 465}, {40, 640}, {3, 1000}};
  int number = 1000;
  for (const auto& [height, width] : kSizes) {
    for (int sampling = FIREWALL_JPEG_444; sampling <= FIREWALL_JPEG_GREY; ++sampling) {
      for (int format = FIREWALL_JPEG_UINT8; format <= FIREWALL_JPEG_FLOAT16; ++format) {
        ++number;
        EXPECT(same(1, height, width, {1 + number * 31 % 100, 90}, sampling, format, number));
      }
    }
  }
}

// Every quality, on noise that fills the range of the coefficients and on a slope.
void test_every_quality_equals_the_cpu() {
  std::vector<std::int32_t> qualities(100);
  std::iota(qualities.begin(), qualities.end(), 1);
  for (int number = 1; number <= 3; ++number) {
    EXPECT(same(1, 41, 50, qualities, FIREWALL_JPEG_420, FIREWALL_JPEG_UINT8, 4 + number % 3));
    EXPECT(same(1, 19, 26, qualities, FIREWALL_JPEG_444, FIREWALL_JPEG_FLOAT32, 4 + number % 3));
  }
}

// Several images in one grid, with gaps behind rows and images; no gap behind the last row.
void test_batches_and_strides_equal_the_cpu() {
  for (int format = FIREWALL_JPEG_UINT8; format <= FIREWALL_JPEG_FLOAT16; ++format) {
    EXPECT(same(3, 37, 230, {75, 20, 75}, FIREWALL_JPEG_420, format, 8, 11));
    EXPECT(same(5, 8, 9, {100}, FIREWALL_JPEG_422, format, 12, 1));
    EXPECT(same(2, 50, 33, {5, 95}, FIREWALL_JPEG_GREY, format, 16, 3));
  }
}

// Every coefficient with every step of a table.
void test_quantisation_is_a_division() {
  for (int q = 1; q <= 255; ++q) {
    const jpeg::Step step = jpeg::step_of(q);
    bool exact = true;
    for (int x = -8200; x <= 8200; ++x) {
      const int magnitude = (std::abs(x) + 4 * q) / (8 * q) * q;
      exact = exact && jpeg::quantised(x, step) == (x < 0 ? -magnitude : magnitude);
    }
    EXPECT(exact);
  }
}

// Every number that can come up, over every number that can divide it.
void test_division_by_multiplication_is_exact() {
  for (int by = 1; by < 32768; by = by < 1000 ? by + 1 : by * 17 / 16) {
    const Divisor divisor(by);
    bool exact = true;
    for (int value = 0; value < 65536; ++value) {
      const int quotient = divisor.quotient(value);
      exact = exact && quotient == value / by && divisor.remainder(value, quotient) == value % by;
    }
    EXPECT(exact);
  }
}

// All shapes of tiles fit the shared memory that every GPU has.
void test_shared_memory_is_enough_everywhere() {
  for (int width = 1; width <= 2000; ++width) {
    for (int sampling = FIREWALL_JPEG_444; sampling <= FIREWALL_JPEG_GREY; ++sampling) {
      const jpeg::Task task = jpeg::make_task(100, width, 1, options_of(sampling, FIREWALL_JPEG_UINT8));
      EXPECT(task.tile_width <= jpeg::kTileWidth && task.tile_width % 16 == 0);
      EXPECT(task.tile_width * task.tiles_across >= width && task.tile_width * (task.tiles_across - 1) < width);
      EXPECT(task.canvas.size <= kMostShared && task.prepare_memory <= kMostShared);
    }
  }
}

}  // namespace

int main() {
  test_small_sizes_equal_the_cpu();
  test_large_sizes_equal_the_cpu();
  test_every_quality_equals_the_cpu();
  test_batches_and_strides_equal_the_cpu();
  test_quantisation_is_a_division();
  test_division_by_multiplication_is_exact();
  test_shared_memory_is_enough_everywhere();
  std::printf("%d copies compared with the CPU, threads in two orders\n", copies_compared);
  return firewall::testing::failures == 0 ? 0 : 1;
}
