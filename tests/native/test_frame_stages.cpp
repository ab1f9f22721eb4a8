// What is done to every frame: crops, from and into buffers of exactly the promised size (a sanitizer sees
// what goes beyond), the same bytes at every level of vector instructions, refusals; and no operation allocates while
// it runs. That crops are Pillow's bytes is held by tests/transforms/test_crops.py.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "../../runtime/cpu/kernels/kernels.hpp"
#include "allocations.hpp"
#include "expect.hpp"
#include "firewall/crops.h"
#include "firewall/gaussian_blur.h"
#include "firewall/jpeg_sweep.h"
#include "firewall/residual.h"
#include "firewall/rotate.h"
#include "firewall/scale.h"
#include "firewall/tensor.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes noise(std::size_t size) {
  Bytes made(size);
  std::uint32_t state = 5;
  for (std::uint8_t& each : made) {
    state = state * 1664525U + 1013904223U;
    each = static_cast<std::uint8_t>(state >> 24);
  }
  return made;
}

constexpr int kHeight = 61, kWidth = 83, kRow = 3 * kWidth + 5;
// Its last row ends where the memory ends.
const Bytes kPixels = noise(static_cast<std::size_t>(kRow) * (kHeight - 1) + 3 * kWidth);
const firewall_images kFrame = {kPixels.data(), 0, kRow, 1, kHeight, kWidth};

const std::vector<firewall_region> kRegions = {{0, 0, 83, 61},  {82, 60, 1, 1}, {10, 5, 48, 48}, {3, 9, 30, 44},
                                               {20, 20, 63, 3}, {0, 0, 48, 61}, {35, 13, 48, 48}};

void crops_are_the_same_everywhere() {
  using firewall::SimdLevel;
  for (const auto& [height, width] : std::vector<std::pair<int, int>>{{48, 48}, {1, 1}, {7, 90}, {100, 3}}) {
    std::vector<Bytes> found;
    for (const SimdLevel level :
         {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512, SimdLevel::neon, firewall::simd_level()}) {
      if (!firewall::use_kernels(level)) continue;
      Bytes scratch(firewall_crops_scratch(kHeight, kWidth, height, width) + 1);
      Bytes result(kRegions.size() * static_cast<std::size_t>(height * width) * 3, 77);
      EXPECT(firewall_crops(result.data(), &kFrame, kRegions.data(), static_cast<std::int32_t>(kRegions.size()), height,
                            width, scratch.data() + 1, scratch.size() - 1) == FIREWALL_OK);
      found.push_back(result);
      EXPECT(found.front() == result);
    }
    if (height != 48) continue;
    const std::size_t image = 48 * 48 * 3;
    for (const std::size_t which : {std::size_t{2}, std::size_t{6}}) {  // of the right size: as they are
      for (std::size_t y = 0; y < 48; ++y) {
        const firewall_region& region = kRegions[which];
        const std::uint8_t* row = kPixels.data() + static_cast<std::size_t>(region.y) * kRow + y * kRow +
                                  3 * static_cast<std::size_t>(region.x);
        EXPECT(std::memcmp(found.front().data() + which * image + y * 144, row, 144) == 0);
      }
    }
  }
}

void refused() {
  Bytes scratch(firewall_crops_scratch(kHeight, kWidth, 4, 4)), result(4 * 4 * 3);
  const firewall_region whole = {0, 0, kWidth, kHeight};
  const auto crop = [&](const firewall_images* frame, const firewall_region* regions, int count, int height, int width,
                        std::uint8_t* out, void* memory, std::size_t size) {
    return firewall_crops(out, frame, regions, count, height, width, memory, size);
  };
  std::uint8_t* const out = result.data();
  void* const memory = scratch.data();
  EXPECT(crop(&kFrame, &whole, 1, 4, 4, out, memory, scratch.size()) == FIREWALL_OK);
  EXPECT(crop(&kFrame, &whole, 0, 4, 4, nullptr, nullptr, 0) == FIREWALL_OK);
  EXPECT(crop(nullptr, &whole, 1, 4, 4, out, memory, scratch.size()) == FIREWALL_NULL_POINTER);
  EXPECT(crop(&kFrame, nullptr, 1, 4, 4, out, memory, scratch.size()) == FIREWALL_NULL_POINTER);
  EXPECT(crop(&kFrame, &whole, 1, 4, 4, nullptr, memory, scratch.size()) == FIREWALL_NULL_POINTER);
  EXPECT(crop(&kFrame, &whole, 1, 4, 4, out, nullptr, scratch.size()) == FIREWALL_NULL_POINTER);
  EXPECT(crop(&kFrame, &whole, -1, 4, 4, out, memory, scratch.size()) == FIREWALL_BAD_SIZE);
  EXPECT(crop(&kFrame, &whole, 1, 0, 4, out, memory, scratch.size()) == FIREWALL_BAD_SIZE);
  EXPECT(crop(&kFrame, &whole, 1, 4, 20000, out, memory, scratch.size()) == FIREWALL_BAD_SIZE);
  EXPECT(crop(&kFrame, &whole, 1, 4, 4, out, memory, scratch.size() - 1) == FIREWALL_SCRATCH_TOO_SMALL);
  EXPECT(crop(&kFrame, &whole, 1, 4, 4, scratch.data(), memory, scratch.size()) == FIREWALL_OVERLAP);
  firewall_images close = kFrame, none = kFrame, two = kFrame;
  close.row_stride = 3 * kWidth - 1;
  none.data = nullptr;
  two.count = 2;
  EXPECT(crop(&close, &whole, 1, 4, 4, out, memory, scratch.size()) == FIREWALL_BAD_STRIDE);
  EXPECT(crop(&none, &whole, 1, 4, 4, out, memory, scratch.size()) == FIREWALL_NULL_POINTER);
  EXPECT(crop(&two, &whole, 1, 4, 4, out, memory, scratch.size()) == FIREWALL_BAD_SIZE);
  const std::vector<firewall_region> beyond = {{-1, 0, 4, 4}, {0, -1, 4, 4}, {80, 0, 4, 4},
                                               {0, 58, 4, 4}, {0, 0, 0, 4},  {2147483647, 0, 4, 4},
                                               {0, 0, 4, 0},  {0, 0, -4, 4}, {4, 0, 2147483647, 4}};
  for (const firewall_region& region : beyond) {
    EXPECT(crop(&kFrame, &region, 1, 4, 4, out, memory, scratch.size()) == FIREWALL_BAD_PARAMETER);
  }
  EXPECT(firewall_crops_scratch(0, 1, 1, 1) == 0 && firewall_crops_scratch(1, 1, 16385, 1) == 0);
}

void nothing_is_allocated() {
  constexpr int kSide = 48, kImage = kSide * kSide * 3;
  const Bytes pixels = noise(kImage);
  const firewall_images image = {pixels.data(), 0, 3 * kSide, 1, kSide, kSide};
  Bytes result(8 * kImage), scratch(1 << 20);
  std::vector<float> numbers(8 * kImage);
  std::vector<std::int16_t> differences(8 * kImage);
  const double factors[] = {0.75, 0.85, 1.15, 1.25}, angles[] = {3, -5}, shares[] = {0.97};
  const double mean[] = {0, 0, 0}, deviation[] = {1, 1, 1};
  const float radii[] = {2, 3};
  const std::int32_t qualities[] = {90, 50, 20};
  firewall_jpeg_options options = {FIREWALL_JPEG_420, FIREWALL_JPEG_FLOAT32, 1, FIREWALL_JPEG_BEST, {}, {}, 0, 0, 0};
  for (int c = 0; c < 3; ++c) options.std[c] = 1;
  void* const memory = scratch.data();
  const std::size_t size = scratch.size();
  const std::vector<std::function<int()>> operations = {
      [&] { return firewall_crops(result.data(), &kFrame, kRegions.data(), 7, kSide, kSide, memory, size); },
      [&] { return firewall_scale(result.data(), &image, factors, 4, FIREWALL_FILTER_BICUBIC, memory, size); },
      [&] { return firewall_rotate(result.data(), &image, angles, 2); },
      [&] { return firewall_gaussian_blur(result.data(), &image, radii, 2, memory, size); },
      [&] { return firewall_residual(differences.data(), &image, shares, 1, 4, 2, memory, size); },
      [&] { return firewall_tensor(numbers.data(), &image, mean, deviation); },
      [&] {
        return firewall_jpeg_sweep(numbers.data(), numbers.size() * sizeof(float), &image, qualities, 3, &options,
                                   memory, size);
      },
  };
  for (const auto& operation : operations) {
    const long before = firewall::testing::allocations();
    const int first = operation(), second = operation();
    const long after = firewall::testing::allocations();
    EXPECT(first == FIREWALL_OK && second == FIREWALL_OK);
    EXPECT(after == before);
  }
  const long before = firewall::testing::allocations();
  Bytes counted(10);
  EXPECT(firewall::testing::allocations() > before);  // the counter counts
}

}  // namespace

int main() {
  crops_are_the_same_everywhere();
  refused();
  nothing_is_allocated();
  if (firewall::testing::failures == 0) std::puts("what is done to every frame: all as expected");
  return firewall::testing::failures == 0 ? 0 : 1;
}
