// libFuzzer target: sizes, strides, parameters, filters and pixels of the operations, from buffers of exactly the
// promised sizes. Every call must answer with a status; a sanitizer sees what it must not touch. Also: all levels of
// vector instructions give the same bytes.
//
//   cmake -S . -B build/fuzz -DCMAKE_CXX_COMPILER=clang++ -DFIREWALL_BUILD_FUZZERS=ON \
//     -DFIREWALL_SANITIZE=address,undefined,fuzzer-no-link
//   cmake --build build/fuzz && build/fuzz/tests/native/fuzz_operations -max_total_time=60
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

#include "../../runtime/cpu/kernels/kernels.hpp"
#include "firewall/gaussian_blur.h"
#include "firewall/residual.h"
#include "firewall/rotate.h"
#include "firewall/scale.h"

namespace {

// Takes values from the fuzzer's bytes; zeros when they are used up.
struct Input {
  const std::uint8_t* data;
  std::size_t size;

  template <typename Value>
  Value take() {
    Value value{};
    const std::size_t taken = size < sizeof(Value) ? size : sizeof(Value);
    if (taken > 0) std::memcpy(&value, data, taken);
    data += taken;
    size -= taken;
    return value;
  }

  // Mostly an ordinary number, sometimes any.
  double number(double low, double high) {
    const auto kind = take<std::uint8_t>();
    if (kind < 8) return take<double>();
    return low + (high - low) * take<std::uint16_t>() / 65535.0;
  }
};

struct Call {
  int operation;
  firewall_images source;
  std::vector<double> parameters;
  int first, second;
};

int run(const Call& call, std::uint8_t* out, void* scratch, std::size_t size) {
  const auto count = static_cast<std::int32_t>(call.parameters.size());
  switch (call.operation) {
    case 0: {
      std::vector<float> radii;
      for (const double radius : call.parameters) {
        radii.push_back(radius > 3e38 || radius < -3e38 ? -1.0F : static_cast<float>(radius));
      }
      return firewall_gaussian_blur(out, &call.source, radii.data(), count, scratch, size);
    }
    case 1:
      return firewall_rotate(out, &call.source, call.parameters.data(), count);
    case 2:
      return firewall_scale(out, &call.source, call.parameters.data(), count, call.first, scratch, size);
    default:
      return firewall_residual_coded(out, &call.source, call.parameters.data(), count, call.first, call.second, scratch,
                                     size);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input{data, size};
  Call call{};
  call.operation = input.take<std::uint8_t>() % 4;
  constexpr double kLow[] = {0.0, -400.0, 0.1, 0.0};
  constexpr double kHigh[] = {12.0, 400.0, 3.0, 1.0};
  const auto height = static_cast<std::int32_t>(input.take<std::uint8_t>() % 80);
  const auto width = static_cast<std::int32_t>(input.take<std::uint8_t>() % 80);
  const auto images = static_cast<std::int32_t>(input.take<std::uint8_t>() % 3);
  const auto parameters = input.take<std::uint8_t>() % 3;
  for (int i = 0; i < parameters; ++i)
    call.parameters.push_back(input.number(kLow[call.operation], kHigh[call.operation]));
  call.first = input.take<std::uint8_t>() % 6;
  call.second = input.take<std::uint8_t>() % 6;
  const std::ptrdiff_t row = 3 * width + input.take<std::uint8_t>() % 4 - 1;
  const std::ptrdiff_t stride = row * height + input.take<std::uint8_t>() % 4 - 1;

  // From the first pixel to the last, and no byte more.
  const std::ptrdiff_t used = images > 0 && height > 0 ? (images - 1) * stride + (height - 1) * row + 3 * width : 0;
  const auto held = static_cast<std::size_t>(used > 0 ? used : 0);
  const std::unique_ptr<std::uint8_t[]> pixels(new std::uint8_t[held + 1]);
  for (std::size_t i = 0; i < held; ++i) pixels[i] = input.take<std::uint8_t>();
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[held > 0 ? held : 1]);
  std::memcpy(exact.get(), pixels.get(), held);
  call.source = {exact.get(), stride, row, images, height, width};

  std::size_t scratch_size = 0;
  if (call.operation == 0) scratch_size = firewall_gaussian_blur_scratch(height, width);
  if (call.operation == 2) scratch_size = firewall_scale_scratch(height, width);
  if (call.operation == 3) scratch_size = firewall_residual_scratch(height, width);
  const std::size_t out_size = static_cast<std::size_t>(3 * height * width * images) * call.parameters.size();
  const std::unique_ptr<std::uint8_t[]> scratch(new std::uint8_t[scratch_size + 1]);
  std::vector<std::uint8_t> expected;
  for (const firewall::SimdLevel level : {firewall::SimdLevel::scalar, firewall::SimdLevel::avx2,
                                          firewall::SimdLevel::avx512, firewall::SimdLevel::neon}) {
    if (!firewall::use_kernels(level)) continue;
    std::vector<std::uint8_t> out(out_size, 0x5a);
    out.shrink_to_fit();
    const int status = run(call, out.data(), scratch.get() + 1, scratch_size);
    if (status < FIREWALL_OK || status > FIREWALL_SCRATCH_TOO_SMALL) std::abort();
    if (status != FIREWALL_OK) {
      for (const std::uint8_t byte : out) {
        if (byte != 0x5a) std::abort();
      }
    }
    if (expected.empty()) expected = out;
    if (out != expected) std::abort();
  }
  return 0;
}
