// gaussian_blur, rotate, scale and residual through the C interface: Pillow's bytes at every level of vector
// instructions, from and into buffers of exactly the promised size (a sanitizer sees what goes beyond), and refusals.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <vector>

#include "../../runtime/cpu/kernels/kernels.hpp"
#include "expect.hpp"
#include "firewall/gaussian_blur.h"
#include "firewall/residual.h"
#include "firewall/rotate.h"
#include "firewall/scale.h"
#include "firewall/tensor.h"

#if defined(FIREWALL_TEST_EMULATED)
namespace firewall::avx512_emulated {
extern const Kernels table;
}
#endif

namespace {

enum class Operation { blur, rotate, scale, residual };

struct Expected {
  int height, width;
  Operation operation;
  double parameter;
  int first, second;
  std::uint64_t hash;
};

constexpr Expected kExpected[] = {
#include "operations_expected.inc"
};

struct Bytes {
  std::unique_ptr<std::uint8_t[]> data;
  std::size_t size;
};

// Scratch begins at an odd address, which the interface allows; images and results end where the memory ends.
Bytes allocate(std::size_t size) {
  return {std::unique_ptr<std::uint8_t[]>(new std::uint8_t[size > 0 ? size : 1]), size};
}

Bytes image(int height, int width) {
  Bytes bytes = allocate(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3);
  auto state = static_cast<std::uint32_t>(height * 1000 + width);
  for (std::size_t i = 0; i < bytes.size; ++i) {
    state = state * 1664525U + 1013904223U;
    bytes.data[i] = static_cast<std::uint8_t>(state >> 24);
  }
  return bytes;
}

std::uint64_t hash(const std::uint8_t* data, std::size_t size) {
  std::uint64_t state = 0xcbf29ce484222325ULL;
  for (std::size_t i = 0; i < size; ++i) state = (state ^ data[i]) * 0x100000001b3ULL;
  return state;
}

firewall_images images(const std::uint8_t* data, int count, int height, int width) {
  const std::ptrdiff_t row = std::ptrdiff_t{3} * width;
  return {data, row * height, row, count, height, width};
}

std::size_t scratch_size(Operation operation, int height, int width) {
  switch (operation) {
    case Operation::blur:
      return firewall_gaussian_blur_scratch(height, width);
    case Operation::rotate:
      return 0;
    case Operation::scale:
      return firewall_scale_scratch(height, width);
    default:
      return firewall_residual_scratch(height, width);
  }
}

int run(Operation operation, std::uint8_t* out, const firewall_images* source, const std::vector<double>& parameters,
        int first, int second, void* scratch, std::size_t size) {
  const auto count = static_cast<std::int32_t>(parameters.size());
  switch (operation) {
    case Operation::blur: {
      const std::vector<float> radii(parameters.begin(), parameters.end());
      return firewall_gaussian_blur(out, source, radii.data(), count, scratch, size);
    }
    case Operation::rotate:
      return firewall_rotate(out, source, parameters.data(), count);
    case Operation::scale:
      return firewall_scale(out, source, parameters.data(), count, first, scratch, size);
    default:
      return firewall_residual_coded(out, source, parameters.data(), count, first, second, scratch, size);
  }
}

// Pillow's bytes, by their hash.
void test_expected() {
  for (const Expected& expected : kExpected) {
    const Bytes pixels = image(expected.height, expected.width);
    const firewall_images source = images(pixels.data.get(), 1, expected.height, expected.width);
    const std::size_t size = scratch_size(expected.operation, expected.height, expected.width);
    const Bytes scratch = allocate(size + 1);
    const Bytes out = allocate(pixels.size);
    const int status = run(expected.operation, out.data.get(), &source, {expected.parameter}, expected.first,
                           expected.second, scratch.data.get() + 1, size);
    EXPECT(status == FIREWALL_OK);
    const bool equal = hash(out.data.get(), out.size) == expected.hash;
    EXPECT(equal);
    if (!equal) {
      std::fprintf(stderr, "  operation %d, parameter %g, filters %d %d, %d x %d\n",
                   static_cast<int>(expected.operation), expected.parameter, expected.first, expected.second,
                   expected.height, expected.width);
    }
  }
}

struct Call {
  Operation operation;
  std::vector<double> parameters;
  int first, second;
};

const Call kCalls[] = {
    {Operation::blur, {2, 0, 70, 3.3}, 0, 0},
    {Operation::rotate, {3, -8, 90}, 0, 0},
    {Operation::scale, {0.75, 1.25, 0.3}, FIREWALL_FILTER_BICUBIC, 0},
    {Operation::residual, {0.95, 0.2}, FIREWALL_FILTER_BOX, FIREWALL_FILTER_BILINEAR},
};

// A call for many images in rows with gaps, and many parameters, gives what single calls give.
void test_batches() {
  constexpr int kHeight = 19;
  constexpr int kWidth = 37;
  constexpr int kImages = 3;
  constexpr std::size_t kImage = std::size_t{kHeight} * kWidth * 3;
  constexpr std::ptrdiff_t kRow = kWidth * 3 + 5;
  constexpr std::ptrdiff_t kStride = kRow * kHeight + 11;
  const Bytes frame = allocate(static_cast<std::size_t>(2 * kStride + (kHeight - 1) * kRow + 3 * kWidth));
  std::vector<Bytes> single;
  std::memset(frame.data.get(), 0xa5, frame.size);
  for (int n = 0; n < kImages; ++n) {
    single.push_back(image(kHeight, kWidth));
    for (std::size_t i = 0; i < kImage; ++i)
      single.back().data[i] = static_cast<std::uint8_t>(single.back().data[i] + n * 31);
    for (int y = 0; y < kHeight; ++y) {
      std::memcpy(frame.data.get() + n * kStride + y * kRow, single.back().data.get() + y * kWidth * 3, kWidth * 3);
    }
  }
  const firewall_images source{frame.data.get(), kStride, kRow, kImages, kHeight, kWidth};
  for (const Call& call : kCalls) {
    const std::size_t size = scratch_size(call.operation, kHeight, kWidth);
    const Bytes scratch = allocate(size);
    const Bytes out = allocate(kImages * call.parameters.size() * kImage);
    EXPECT(run(call.operation, out.data.get(), &source, call.parameters, call.first, call.second, scratch.data.get(),
               size) == FIREWALL_OK);
    const std::uint8_t* at = out.data.get();
    for (const Bytes& pixels : single) {
      const firewall_images one = images(pixels.data.get(), 1, kHeight, kWidth);
      for (const double parameter : call.parameters) {
        const Bytes alone = allocate(kImage);
        EXPECT(run(call.operation, alone.data.get(), &one, {parameter}, call.first, call.second, scratch.data.get(),
                   size) == FIREWALL_OK);
        EXPECT(std::memcmp(alone.data.get(), at, kImage) == 0);
        at += kImage;
      }
    }
  }
}

// int16 and coded residuals say the same.
void test_residual_forms() {
  const Bytes pixels = image(25, 40);
  const firewall_images source = images(pixels.data.get(), 1, 25, 40);
  const std::size_t size = firewall_residual_scratch(25, 40);
  const Bytes scratch = allocate(size);
  const double share = 0.5;
  std::vector<std::int16_t> plain(pixels.size);
  const Bytes coded = allocate(pixels.size);
  EXPECT(firewall_residual(plain.data(), &source, &share, 1, FIREWALL_FILTER_BOX, FIREWALL_FILTER_BILINEAR,
                           scratch.data.get(), size) == FIREWALL_OK);
  EXPECT(firewall_residual_coded(coded.data.get(), &source, &share, 1, FIREWALL_FILTER_BOX, FIREWALL_FILTER_BILINEAR,
                                 scratch.data.get(), size) == FIREWALL_OK);
  bool same = true;
  bool beyond = false;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const int byte = plain[i] + 128;
    beyond = beyond || byte < 0 || byte > 255;
    same = same && coded.data[i] == (byte < 0 ? 0 : byte > 255 ? 255 : byte);
  }
  EXPECT(same);
  EXPECT(beyond);  // or the cut was not tried
}

constexpr double kMean[3] = {0.485, 0.0, 0.406};
constexpr double kStd[3] = {0.229, 1.0, 2.5};

// Each number is value * scale + shift, colours apart; of images and rows with gaps, at widths about a block of 16.
void test_tensor() {
  for (const int width : {1, 3, 15, 16, 17, 31, 32, 33, 48, 100}) {
    constexpr int kHeight = 5;
    constexpr int kCount = 2;
    const std::ptrdiff_t row = std::ptrdiff_t{3} * width + 2;
    const Bytes pixels = image(kHeight * kCount + 1, width + 1);
    const firewall_images source = {pixels.data.get(), row * kHeight + 1, row, kCount, kHeight, width};
    const std::size_t plane = static_cast<std::size_t>(kHeight * width);
    std::vector<float> out(3 * plane * kCount, -7.0F);
    EXPECT(firewall_tensor(out.data(), &source, kMean, kStd) == FIREWALL_OK);
    bool same = true;
    for (int n = 0; n < kCount; ++n) {
      for (std::size_t c = 0; c < 3; ++c) {
        const auto scale = static_cast<float>(1.0 / (255.0 * kStd[c]));
        const auto shift = static_cast<float>(-kMean[c] / kStd[c]);
        for (int y = 0; y < kHeight; ++y) {
          for (int x = 0; x < width; ++x) {
            const std::uint8_t* pixel = source.data + n * source.image_stride + y * row + std::ptrdiff_t{3} * x;
            // volatile: rounded, whatever the compiler would make of a product and a sum.
            const volatile float product = static_cast<float>(pixel[c]) * scale;
            const std::size_t at =
                (static_cast<std::size_t>(n) * 3 + c) * plane + static_cast<std::size_t>(y * width + x);
            same = same && out[at] == product + shift;
          }
        }
      }
    }
    EXPECT(same);
  }
}

void test_tensor_refusals() {
  const Bytes pixels = image(6, 7);
  const firewall_images good = images(pixels.data.get(), 1, 6, 7);
  std::vector<float> out(3 * 6 * 7, 5.0F);
  EXPECT(firewall_tensor(out.data(), nullptr, kMean, kStd) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_tensor(nullptr, &good, kMean, kStd) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_tensor(out.data(), &good, nullptr, kStd) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_tensor(out.data(), &good, kMean, nullptr) == FIREWALL_NULL_POINTER);
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    const double wrong[3] = {0.5, bad, 0.5};
    EXPECT(firewall_tensor(out.data(), &good, wrong, kStd) == FIREWALL_BAD_PARAMETER);
    EXPECT(firewall_tensor(out.data(), &good, kMean, wrong) == FIREWALL_BAD_PARAMETER);
  }
  for (const double bad : {0.0, -1.0}) {
    const double wrong[3] = {1.0, 1.0, bad};
    EXPECT(firewall_tensor(out.data(), &good, kMean, wrong) == FIREWALL_BAD_PARAMETER);
  }
  firewall_images bad = good;
  bad.width = FIREWALL_MAX_SIDE + 1;
  EXPECT(firewall_tensor(out.data(), &bad, kMean, kStd) == FIREWALL_BAD_SIZE);
  bad = good;
  bad.row_stride -= 1;
  EXPECT(firewall_tensor(out.data(), &bad, kMean, kStd) == FIREWALL_BAD_STRIDE);
  bad = good;
  bad.data = reinterpret_cast<const std::uint8_t*>(out.data());
  EXPECT(firewall_tensor(out.data(), &bad, kMean, kStd) == FIREWALL_OVERLAP);
  bool untouched = true;
  for (const float number : out) untouched = untouched && number == 5.0F;
  EXPECT(untouched);
  bad = good;
  bad.count = 0;
  EXPECT(firewall_tensor(nullptr, &bad, kMean, kStd) == FIREWALL_OK);
}

// Every refusal leaves the destination as it was.
void test_refusals() {
  constexpr int kHeight = 6;
  constexpr int kWidth = 7;
  const Bytes pixels = image(kHeight, kWidth);
  const firewall_images good = images(pixels.data.get(), 1, kHeight, kWidth);
  for (const Call& call : kCalls) {
    const std::size_t size = scratch_size(call.operation, kHeight, kWidth);
    const Bytes scratch = allocate(size);
    const Bytes out = allocate(call.parameters.size() * pixels.size);
    std::memset(out.data.get(), 0x5a, out.size);
    const auto status = [&](const firewall_images* source) {
      return run(call.operation, out.data.get(), source, call.parameters, call.first, call.second, scratch.data.get(),
                 size);
    };
    EXPECT(status(nullptr) == FIREWALL_NULL_POINTER);
    firewall_images bad = good;
    bad.data = nullptr;
    EXPECT(status(&bad) == FIREWALL_NULL_POINTER);
    for (const int side : {0, -1, FIREWALL_MAX_SIDE + 1, std::numeric_limits<int>::max()}) {
      bad = good;
      bad.height = side;
      EXPECT(status(&bad) == FIREWALL_BAD_SIZE);
      bad = good;
      bad.width = side;
      EXPECT(status(&bad) == FIREWALL_BAD_SIZE);
      EXPECT(call.operation == Operation::rotate || scratch_size(call.operation, side, kWidth) == 0);
    }
    bad = good;
    bad.count = -1;
    EXPECT(status(&bad) == FIREWALL_BAD_SIZE);
    bad = good;
    bad.row_stride -= 1;
    EXPECT(status(&bad) == FIREWALL_BAD_STRIDE);
    bad = good;
    bad.row_stride = std::numeric_limits<std::ptrdiff_t>::max();
    EXPECT(status(&bad) == FIREWALL_BAD_STRIDE);
    bad = good;
    bad.count = 2;
    bad.image_stride -= 1;
    EXPECT(status(&bad) == FIREWALL_BAD_STRIDE);
    bad.image_stride = -good.image_stride;
    EXPECT(status(&bad) == FIREWALL_BAD_STRIDE);
    bad.image_stride = std::numeric_limits<std::ptrdiff_t>::max();
    bad.count = 3;
    EXPECT(status(&bad) == FIREWALL_BAD_STRIDE);
    bad = good;
    bad.data = out.data.get() + out.size - 1;
    EXPECT(status(&bad) == FIREWALL_OVERLAP);
    for (const double parameter : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      EXPECT(run(call.operation, out.data.get(), &good, {parameter}, call.first, call.second, scratch.data.get(),
                 size) == FIREWALL_BAD_PARAMETER);
    }
    if (call.operation != Operation::rotate) {
      for (std::size_t less = 0; less < size; less += less < size - 1 && less > 0 ? size - 1 - less : 1) {
        EXPECT(run(call.operation, out.data.get(), &good, call.parameters, call.first, call.second, scratch.data.get(),
                   less) == FIREWALL_SCRATCH_TOO_SMALL);
      }
      EXPECT(run(call.operation, out.data.get(), &good, call.parameters, call.first, call.second, nullptr, size) ==
             FIREWALL_NULL_POINTER);
      EXPECT(run(call.operation, out.data.get(), &good, call.parameters, call.first, call.second, out.data.get(),
                 size) == FIREWALL_OVERLAP);
      EXPECT(run(call.operation, out.data.get(), &good, {-1.0}, call.first, call.second, scratch.data.get(), size) ==
             FIREWALL_BAD_PARAMETER);
    }
    if (call.operation == Operation::scale || call.operation == Operation::residual) {
      EXPECT(run(call.operation, out.data.get(), &good, call.parameters, 1, call.second, scratch.data.get(), size) ==
             FIREWALL_BAD_PARAMETER);
    }
    bool untouched = true;
    for (std::size_t i = 0; i < out.size; ++i) untouched = untouched && out.data[i] == 0x5a;
    EXPECT(untouched);
    // Nothing to do is no mistake, and needs no buffers.
    EXPECT(run(call.operation, nullptr, &good, {}, call.first, call.second, nullptr, 0) == FIREWALL_OK);
    bad = good;
    bad.count = 0;
    EXPECT(run(call.operation, nullptr, &bad, call.parameters, call.first, call.second, nullptr, 0) == FIREWALL_OK);
  }
  for (int status = -1; status < 9; ++status) EXPECT(std::strlen(firewall_status_text(status)) > 3);
}

// The promised memory: scratch of at most four images, plus what is proportional to a side.
void test_scratch() {
  for (const int side : {48, 224, 640}) {
    const std::size_t image_bytes = std::size_t{3} * static_cast<std::size_t>(side * side);
    for (const Call& call : kCalls) {
      EXPECT(scratch_size(call.operation, side, side) <= 4 * image_bytes + static_cast<std::size_t>(side) * 128);
    }
  }
}

}  // namespace

int main() {
  using firewall::SimdLevel;
  int levels = 0;
  for (const SimdLevel level : {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512, SimdLevel::neon}) {
    if (!firewall::use_kernels(level)) continue;
    ++levels;
    std::printf("%s\n", firewall::simd_name(level));
    test_expected();
    test_batches();
    test_residual_forms();
    test_tensor();
  }
  EXPECT(levels >= 1);
#if defined(FIREWALL_TEST_EMULATED)
  if (firewall::use_kernels(SimdLevel::avx2)) {
    std::puts("avx512, emulated");
    firewall::use_kernels(firewall::avx512_emulated::table);
    test_expected();
    test_batches();
    test_residual_forms();
    test_tensor();
    firewall::use_kernels(SimdLevel::avx2);
  }
#endif
  test_refusals();
  test_tensor_refusals();
  test_scratch();
  return firewall::testing::failures == 0 ? 0 : 1;
}
