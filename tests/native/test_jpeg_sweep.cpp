// The sweep without Python: every set of instructions gives the bytes of one checksum (which test_jpeg_native.py makes
// from Pillow's bytes), nothing outside the buffers is touched, and what is not allowed is refused before anything is
// written.
#include "firewall/jpeg_sweep.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "../../runtime/cpu/jpeg/quantisation.hpp"
#include "expect.hpp"
#include "jpeg_cases.hpp"

namespace {

using namespace firewall::testing;

template <typename Visit>
void every_case(const Visit& visit) {
  constexpr int kSides[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 47, 64, 65, 97};
  int number = 0;
  for (const int height : kSides) {
    for (const int width : kSides) {
      for (int sampling = FIREWALL_JPEG_444; sampling <= FIREWALL_JPEG_GREY; ++sampling) {
        ++number;
        const std::vector<std::int32_t> qualities = {1 + number % 100, 100, 1 + number * 37 % 100, 75};
        const int channels = sampling == FIREWALL_JPEG_GREY ? 1 : 3;
        visit(picture(height * width * channels, number % 4, static_cast<std::uint32_t>(number)), height, width,
              qualities, sampling, number % 3);
      }
    }
  }
}

void test_every_instruction_set_gives_the_same_bytes() {
  constexpr std::uint32_t kExpected = 0x1a127ea2u;
  for (const Contender& contender : contenders()) {
    std::uint32_t crc = 0;
    int cases = 0;
    every_case([&](const Bytes& pixels, int height, int width, const std::vector<std::int32_t>& qualities, int sampling,
                   int format) {
      const firewall_jpeg_options options = options_of(sampling, format, 1, contender.instructions);
      crc = checked(sweep(pixels, height, width, qualities, options, contender.kernel), crc);
      cases += static_cast<int>(qualities.size());
    });
    std::printf("%-18s %d copies %08x\n", contender.name.c_str(), cases, static_cast<unsigned>(crc));
    EXPECT(crc == kExpected);
  }
}

void test_quantisation_is_a_division() {
  bool seen[256] = {};
  for (int table = 0; table < 2; ++table) {
    for (int quality = 1; quality <= 100; ++quality) {
      const firewall::jpeg::Quantiser& quantiser = firewall::jpeg::quantiser(table, quality);
      for (int place = 0; place < firewall::jpeg::kBlock; ++place) {
        const int q = firewall::jpeg::table_entry(table, quality, firewall::jpeg::row_of(place),
                                                  firewall::jpeg::column_of(place));
        if (seen[q]) continue;
        seen[q] = true;
        bool exact = true;
        for (int x = -8200; x <= 8200; ++x) {
          const int magnitude = (std::abs(x) + 4 * q) / (8 * q) * q;
          const int shifted = x - (x < 0);
          auto m = static_cast<std::uint16_t>(shifted + quantiser.offset[place]);
          m = static_cast<std::uint16_t>(std::uint32_t{m} * quantiser.reciprocal[place] >> 16);
          m = static_cast<std::uint16_t>(m & quantiser.mask[place]);
          m = static_cast<std::uint16_t>((std::uint32_t{m} * quantiser.step[place] >> 16) - quantiser.centre[place]);
          exact = exact && static_cast<std::int16_t>(m) == (x < 0 ? -magnitude : magnitude);
        }
        EXPECT(exact);
      }
    }
  }
}

void test_colour_constants_are_exact() {
  for (int c = -128; c < 128; ++c) {
    EXPECT((2 * c * 22970 + 16384) >> 15 == (91881 * c + 32768) >> 16);
    EXPECT((2 * c * 29033 + 16384) >> 15 == (116130 * c + 32768) >> 16);
  }
}

void test_threads_strides_and_counts_change_nothing() {
  const int height = 61, width = 90;
  const Bytes pixels = picture(height * width * 3, 0, 5);
  const std::vector<std::int32_t> qualities = {100, 95, 75, 50, 25, 10, 1};
  const Bytes expected = sweep(pixels, height, width, qualities, options_of(FIREWALL_JPEG_420, FIREWALL_JPEG_UINT8));
  for (const int threads : {2, 5, FIREWALL_JPEG_MAX_THREADS}) {
    EXPECT(sweep(pixels, height, width, qualities, options_of(FIREWALL_JPEG_420, FIREWALL_JPEG_UINT8, threads)) ==
           expected);
  }
  // Two images with gaps after every row; the last row ends where the memory ends.
  const std::ptrdiff_t stride = 3 * width + 11;
  const std::ptrdiff_t image = stride * height + 5;
  Bytes spread(static_cast<std::size_t>(image + stride * (height - 1) + 3 * width));
  for (int i = 0; i < 2; ++i) {
    for (int y = 0; y < height; ++y) {
      std::memcpy(spread.data() + i * image + y * stride, pixels.data() + y * 3 * width, std::size_t{3} * width);
    }
  }
  const firewall_jpeg_options options = options_of(FIREWALL_JPEG_420, FIREWALL_JPEG_UINT8, 3);
  const firewall_images source = {spread.data(), image, stride, 2, height, width};
  Bytes scratch(firewall_jpeg_sweep_scratch(height, width, &options));
  Bytes out(2 * expected.size());
  EXPECT(firewall_jpeg_sweep(out.data(), out.size(), &source, qualities.data(), 7, &options, scratch.data(),
                             scratch.size()) == FIREWALL_OK);
  EXPECT(std::memcmp(out.data(), expected.data(), expected.size()) == 0);
  EXPECT(std::memcmp(out.data() + expected.size(), expected.data(), expected.size()) == 0);
}

void test_what_is_not_allowed_is_refused() {
  const int height = 10, width = 12;
  const Bytes pixels = picture(height * width * 3, 0, 9);
  const std::vector<std::int32_t> qualities = {50, 60};
  const firewall_jpeg_options good = options_of(FIREWALL_JPEG_420, FIREWALL_JPEG_FLOAT32);
  const firewall_images source = images_of(pixels, height, width, 3);
  Bytes scratch(firewall_jpeg_sweep_scratch(height, width, &good));
  Bytes out(firewall_jpeg_sweep_bytes(1, height, width, 2, &good), 42);
  const Bytes untouched = out;
  const auto status = [&](const firewall_images& images, const std::vector<std::int32_t>& list,
                          const firewall_jpeg_options& options, std::size_t out_size, std::size_t scratch_size) {
    return firewall_jpeg_sweep(out.data(), out_size, &images, list.data(), static_cast<std::int32_t>(list.size()),
                               &options, scratch.data(), scratch_size);
  };
  const std::size_t all = out.size(), room = scratch.size();
  for (std::size_t less = 1; less <= all; less += 17) {
    EXPECT(status(source, qualities, good, all - less, room) == FIREWALL_BAD_SIZE);
  }
  for (std::size_t less = 1; less <= room; less += 97) {
    EXPECT(status(source, qualities, good, all, room - less) == FIREWALL_SCRATCH_TOO_SMALL);
  }
  for (const std::int32_t quality : {0, -1, 101, 255, std::numeric_limits<std::int32_t>::min()}) {
    EXPECT(status(source, {50, quality}, good, all, room) == FIREWALL_BAD_PARAMETER);
  }
  const auto with = [&](const auto& change) {
    firewall_jpeg_options options = good;
    change(options);
    EXPECT(firewall_jpeg_sweep_scratch(height, width, &options) == 0 || options.instructions != good.instructions);
    return status(source, qualities, options, all, room);
  };
  for (const std::int32_t bad : {-1, 4, 1000}) {
    EXPECT(with([&](auto& o) { o.sampling = bad; }) == FIREWALL_BAD_PARAMETER);
    EXPECT(with([&](auto& o) { o.format = bad; }) == FIREWALL_BAD_PARAMETER);
    EXPECT(with([&](auto& o) { o.instructions = bad == 4 ? 77 : bad; }) == FIREWALL_BAD_PARAMETER);
  }
  for (const std::int32_t bad : {0, -3, FIREWALL_JPEG_MAX_THREADS + 1}) {
    EXPECT(with([&](auto& o) { o.threads = bad; }) == FIREWALL_BAD_PARAMETER);
  }
  for (const double bad : {0.0, -1.0, HUGE_VAL, std::nan("")}) {
    EXPECT(with([&](auto& o) { o.std[2] = bad; }) == FIREWALL_BAD_PARAMETER);
  }
  EXPECT(with([&](auto& o) { o.mean[0] = HUGE_VAL; }) == FIREWALL_BAD_PARAMETER);
  for (const std::int32_t bad : {-1, 1, 5, 77}) {
    EXPECT(with([&](auto& o) { o.result_height = o.result_width = 4, o.filter = bad; }) == FIREWALL_BAD_PARAMETER);
  }
  for (const std::int32_t bad : {0, -1, FIREWALL_MAX_SIDE + 1, std::numeric_limits<std::int32_t>::min()}) {
    EXPECT(with([&](auto& o) { o.result_height = bad, o.result_width = 5; }) == FIREWALL_BAD_SIZE);
    EXPECT(with([&](auto& o) { o.result_height = 5, o.result_width = bad; }) == FIREWALL_BAD_SIZE);
  }
  const auto shaped = [&](int h, int w, std::ptrdiff_t stride, int count) {
    return status({pixels.data(), 0, stride, count, h, w}, qualities, good, all, room);
  };
  for (const int bad : {0, -1, FIREWALL_MAX_SIDE + 1, std::numeric_limits<int>::max()}) {
    EXPECT(shaped(bad, width, 36, 1) == FIREWALL_BAD_SIZE);
    EXPECT(shaped(height, bad, std::numeric_limits<std::ptrdiff_t>::max(), 1) == FIREWALL_BAD_SIZE);
    EXPECT(firewall_jpeg_sweep_scratch(bad, width, &good) == 0);
    EXPECT(firewall_jpeg_sweep_bytes(1, height, bad, 2, &good) == 0);
  }
  EXPECT(shaped(height, width, 35, 1) == FIREWALL_BAD_STRIDE);
  EXPECT(shaped(height, width, -36, 1) == FIREWALL_BAD_STRIDE);
  EXPECT(shaped(height, width, std::numeric_limits<std::ptrdiff_t>::max(), 1) == FIREWALL_BAD_STRIDE);
  EXPECT(shaped(height, width, 36, 2) == FIREWALL_BAD_STRIDE);
  EXPECT(shaped(height, width, 36, -1) == FIREWALL_BAD_SIZE);
  EXPECT(shaped(height, width, 36, 0) == FIREWALL_OK);  // nothing to do
  EXPECT(status(source, {}, good, 0, 0) == FIREWALL_OK);
  EXPECT(firewall_jpeg_sweep_bytes(0x7fffffff, 32767, 32767, 0x7fffffff, &good) == 0);

  const auto pointers = [&](void* to, const std::uint8_t* from, const std::int32_t* list, void* room_at) {
    const firewall_images images = {from, 0, 36, 1, height, width};
    return firewall_jpeg_sweep(to, all, &images, list, 2, &good, room_at, room);
  };
  EXPECT(pointers(nullptr, pixels.data(), qualities.data(), scratch.data()) == FIREWALL_NULL_POINTER);
  EXPECT(pointers(out.data(), nullptr, qualities.data(), scratch.data()) == FIREWALL_NULL_POINTER);
  EXPECT(pointers(out.data(), pixels.data(), nullptr, scratch.data()) == FIREWALL_NULL_POINTER);
  EXPECT(pointers(out.data(), pixels.data(), qualities.data(), nullptr) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_jpeg_sweep(out.data(), all, nullptr, qualities.data(), 2, &good, scratch.data(), room) ==
         FIREWALL_NULL_POINTER);
  EXPECT(firewall_jpeg_sweep(out.data(), all, &source, qualities.data(), 2, nullptr, scratch.data(), room) ==
         FIREWALL_NULL_POINTER);
  EXPECT(firewall_jpeg_sweep_scratch(height, width, nullptr) == 0);
  EXPECT(firewall_jpeg_sweep_bytes(1, height, width, 2, nullptr) == 0);
  EXPECT(pointers(out.data() + 1, pixels.data(), qualities.data(), scratch.data()) == FIREWALL_BAD_PARAMETER);
  EXPECT(pointers(out.data(), out.data() + all - 4, qualities.data(), scratch.data()) == FIREWALL_OVERLAP);
  EXPECT(pointers(out.data(), pixels.data(), qualities.data(), out.data() + all - 1) == FIREWALL_OVERLAP);
  EXPECT(pointers(out.data(), scratch.data() + 8, qualities.data(), scratch.data()) == FIREWALL_OVERLAP);
  EXPECT(out == untouched);
}

}  // namespace

int main() {
  test_every_instruction_set_gives_the_same_bytes();
  test_quantisation_is_a_division();
  test_colour_constants_are_exact();
  test_threads_strides_and_counts_change_nothing();
  test_what_is_not_allowed_is_refused();
  firewall::testing::test_jpeg_resized();
  return firewall::testing::failures == 0 ? 0 : 1;
}
