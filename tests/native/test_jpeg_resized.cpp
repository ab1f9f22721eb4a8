// Copies of the sweep that are resized, without Python: every instruction set of the sweep and of the resampling gives
// the bytes of one checksum (which test_jpeg_resized.py makes from Pillow's bytes), and the memory is what is promised.
#include "firewall/jpeg_sweep.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "../../runtime/cpu/kernels/kernels.hpp"
#include "firewall/scale.h"
#include "firewall/simd.hpp"
#include "jpeg_cases.hpp"

namespace firewall::testing {
namespace {

struct Case {
  int height, width, to_height, to_width;
};

// Odd sides, more than one strip of rows, one side kept, and rows of the result that need more rows than a strip has.
constexpr Case kCases[] = {{1, 1, 1, 1},     {1, 1, 4, 3},     {7, 5, 1, 1},     {21, 34, 48, 48}, {48, 48, 48, 30},
                           {48, 48, 30, 48}, {97, 64, 48, 48}, {33, 31, 65, 99}, {150, 9, 2, 11},  {9, 150, 11, 2}};

template <typename Visit>
void every_resized_case(const Visit& visit) {
  constexpr int kFilters[] = {FIREWALL_FILTER_BILINEAR, FIREWALL_FILTER_NEAREST, FIREWALL_FILTER_BOX,
                              FIREWALL_FILTER_BICUBIC};
  int number = 0;
  for (const Case& sides : kCases) {
    for (int sampling = FIREWALL_JPEG_444; sampling <= FIREWALL_JPEG_GREY; ++sampling) {
      for (const int filter : kFilters) {
        ++number;
        firewall_jpeg_options options = options_of(sampling, number % 3);
        options.result_height = sides.to_height;
        options.result_width = sides.to_width;
        options.filter = filter;
        const int channels = sampling == FIREWALL_JPEG_GREY ? 1 : 3;
        const Bytes pixels =
            picture(sides.height * sides.width * channels, number % 4, static_cast<std::uint32_t>(number));
        visit(pixels, sides, std::vector<std::int32_t>{1 + number * 7 % 100, 90}, options);
      }
    }
  }
}

void test_every_instruction_set_resizes_to_the_same_bytes() {
  constexpr std::uint32_t kResized = 0xabfd2c41u;
  const SimdLevel best = simd_level();
  for (const SimdLevel level : {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512, SimdLevel::neon, best}) {
    if (!use_kernels(level) && level != best) continue;
    for (const Contender& contender : contenders()) {
      std::uint32_t crc = 0;
      every_resized_case([&](const Bytes& pixels, const Case& sides, const std::vector<std::int32_t>& qualities,
                             firewall_jpeg_options options) {
        options.instructions = contender.instructions;
        crc = checked(sweep(pixels, sides.height, sides.width, qualities, options, contender.kernel), crc);
      });
      std::printf("resized: %-18s with resampling by %s: %08x\n", contender.name.c_str(), simd_name(level),
                  static_cast<unsigned>(crc));
      EXPECT(crc == kResized);
    }
  }
}

void test_threads_resize_to_the_same_bytes() {
  const Bytes pixels = picture(70 * 90 * 3, 0, 3);
  const std::vector<std::int32_t> qualities = {100, 90, 75, 50, 25, 10, 1};
  const auto with = [&](int threads) {
    firewall_jpeg_options options = options_of(FIREWALL_JPEG_420, FIREWALL_JPEG_FLOAT16, threads);
    options.result_height = options.result_width = 48;
    options.filter = FIREWALL_FILTER_BILINEAR;
    return sweep(pixels, 70, 90, qualities, options);
  };
  const Bytes expected = with(1);
  for (const int threads : {2, 5, FIREWALL_JPEG_MAX_THREADS}) EXPECT(with(threads) == expected);
}

void test_the_size_of_the_image_is_not_resized() {
  const Bytes pixels = picture(33 * 50 * 3, 0, 8);
  firewall_jpeg_options options = options_of(FIREWALL_JPEG_420, FIREWALL_JPEG_FLOAT32);
  const Bytes expected = sweep(pixels, 33, 50, {90, 20}, options);
  const std::size_t scratch = firewall_jpeg_sweep_scratch(33, 50, &options);
  options.result_height = 33;
  options.result_width = 50;
  for (const int filter : {FIREWALL_FILTER_NEAREST, FIREWALL_FILTER_BICUBIC}) {
    options.filter = filter;
    EXPECT(sweep(pixels, 33, 50, {90, 20}, options) == expected);
    EXPECT(firewall_jpeg_sweep_scratch(33, 50, &options) == scratch);
  }
}

// Beside the result: at most four times the image, or one copy where that is larger.
void test_scratch_is_at_most_four_images() {
  constexpr Case kSides[] = {{64, 64, 48, 48},       {224, 224, 48, 48},  {224, 224, 224, 224}, {480, 640, 224, 224},
                             {1080, 1920, 640, 640}, {100, 80, 224, 224}, {4000, 64, 32, 32},   {64, 4000, 32, 32}};
  for (const Case& sides : kSides) {
    for (int sampling = FIREWALL_JPEG_444; sampling <= FIREWALL_JPEG_420; ++sampling) {
      firewall_jpeg_options options = options_of(sampling, FIREWALL_JPEG_FLOAT32);
      options.result_height = sides.to_height;
      options.result_width = sides.to_width;
      options.filter = FIREWALL_FILTER_BICUBIC;
      const std::size_t scratch = firewall_jpeg_sweep_scratch(sides.height, sides.width, &options);
      const std::size_t image = 3 * static_cast<std::size_t>(sides.height) * static_cast<std::size_t>(sides.width);
      const std::size_t copy = 3 * static_cast<std::size_t>(sides.to_height) * static_cast<std::size_t>(sides.to_width);
      EXPECT(scratch > 0 && scratch <= 4 * (copy > image ? copy : image));
    }
  }
}

}  // namespace

void test_jpeg_resized() {
  test_every_instruction_set_resizes_to_the_same_bytes();
  test_threads_resize_to_the_same_bytes();
  test_the_size_of_the_image_is_not_resized();
  test_scratch_is_at_most_four_images();
}

}  // namespace firewall::testing
