// firewall/cuda.h on a GPU: every operation gives the bytes that it gives on the processor, by one plan that is run
// twice, on a stream, from images with gaps. Ends with 77, which CTest counts as skipped, where no GPU can be used.
// With --quick it does less, for compute-sanitizer.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "expect.hpp"
#include "firewall/cuda.h"
#include "firewall/gaussian_blur.h"
#include "firewall/residual.h"
#include "firewall/rotate.h"
#include "firewall/scale.h"
#include "firewall/tensor.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

int copies_compared = 0;

// Device memory of exactly this size.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::size_t size) { EXPECT(cudaMalloc(&data_, size) == cudaSuccess); }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  std::uint8_t* data() const { return static_cast<std::uint8_t*>(data_); }

 private:
  void* data_ = nullptr;
};

Bytes noise(std::size_t size, std::uint32_t state) {
  Bytes bytes(size);
  for (std::uint8_t& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::uint8_t>(state >> 24);
  }
  return bytes;
}

// make(plan) makes a plan for 3 images, by_cpu(images, out, size) computes what it must give.
template <typename Make, typename ByCpu>
void compare(const char* name, int height, int width, int channels, int parameters, const Make& make,
             const ByCpu& by_cpu) {
  constexpr int kCount = 3;
  const std::ptrdiff_t row = std::ptrdiff_t{channels} * width + width % 3, image = row * height + 8;
  const Bytes pixels = noise(static_cast<std::size_t>(image * (kCount - 1) + row * (height - 1) + channels * width),
                             static_cast<std::uint32_t>(height * 10000 + width));
  firewall_images source = {pixels.data(), image, row, kCount, height, width};
  firewall_cuda_plan* plan = nullptr;
  EXPECT(make(&plan) == FIREWALL_OK);
  if (plan == nullptr) return;
  const std::size_t size = firewall_cuda_plan_bytes(plan, kCount);
  Bytes expected(size), out(size);
  EXPECT(by_cpu(source, expected.data(), size) == FIREWALL_OK);

  DeviceBytes from(pixels.size()), to(size);
  cudaStream_t stream = nullptr;
  EXPECT(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  source.data = from.data();
  for (int run = 0; run < 2; ++run) {
    EXPECT(cudaMemcpyAsync(from.data(), pixels.data(), pixels.size(), cudaMemcpyHostToDevice, stream) == cudaSuccess);
    EXPECT(cudaMemsetAsync(to.data(), 0xa5, size, stream) == cudaSuccess);
    EXPECT(firewall_cuda_run(plan, to.data(), size, &source, stream) == FIREWALL_OK);
    EXPECT(cudaMemcpyAsync(out.data(), to.data(), size, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
    if (out != expected) {
      std::size_t at = 0;
      while (out[at] == expected[at]) ++at;
      std::fprintf(stderr, "%s of %d x %d: byte %zu of %zu is %d, not %d\n", name, height, width, at, size, out[at],
                   expected[at]);
    }
    EXPECT(out == expected);
  }
  copies_compared += kCount * parameters;
  cudaStreamDestroy(stream);
  firewall_cuda_plan_free(plan);
}

void compare_sweep(int height, int width) {
  const std::int32_t qualities[] = {100, 1, 75, 40, 95};
  for (int sampling = FIREWALL_JPEG_444; sampling <= FIREWALL_JPEG_GREY; ++sampling) {
    for (int format = FIREWALL_JPEG_UINT8; format <= FIREWALL_JPEG_FLOAT16; ++format) {
      firewall_jpeg_options options{};
      options.sampling = sampling;
      options.format = format;
      options.threads = 1;
      const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
      std::memcpy(options.mean, mean, sizeof mean);
      std::memcpy(options.std, std, sizeof std);
      compare(
          "jpeg_sweep", height, width, sampling == FIREWALL_JPEG_GREY ? 1 : 3, 5,
          [&](firewall_cuda_plan** plan) {
            return firewall_cuda_jpeg_sweep_plan(plan, 3, height, width, qualities, 5, &options);
          },
          [&](const firewall_images& source, std::uint8_t* out, std::size_t size) {
            Bytes scratch(firewall_jpeg_sweep_scratch(height, width, &options));
            return firewall_jpeg_sweep(out, size, &source, qualities, 5, &options, scratch.data(), scratch.size());
          });
    }
  }
}

void compare_operations(int height, int width) {
  const float radii[] = {0.0f, 0.6f, 3.0f, 60.0f};
  compare(
      "gaussian_blur", height, width, 3, 4,
      [&](auto** plan) { return firewall_cuda_gaussian_blur_plan(plan, 3, height, width, radii, 4); },
      [&](const firewall_images& source, std::uint8_t* out, std::size_t) {
        Bytes scratch(firewall_gaussian_blur_scratch(height, width));
        return firewall_gaussian_blur(out, &source, radii, 4, scratch.data(), scratch.size());
      });
  const double angles[] = {0.0, 2.0, -33.3, 90.0};
  compare(
      "rotate", height, width, 3, 4,
      [&](auto** plan) { return firewall_cuda_rotate_plan(plan, 3, height, width, angles, 4); },
      [&](const firewall_images& source, std::uint8_t* out, std::size_t) {
        return firewall_rotate(out, &source, angles, 4);
      });
  const double mean[] = {0.485, 0.0, 0.406}, deviation[] = {0.229, 1.0, 2.5};
  compare(
      "tensor", height, width, 3, 1,
      [&](auto** plan) { return firewall_cuda_tensor_plan(plan, 3, height, width, mean, deviation); },
      [&](const firewall_images& source, std::uint8_t* out, std::size_t) {
        return firewall_tensor(reinterpret_cast<float*>(out), &source, mean, deviation);
      });
  const double factors[] = {0.1, 0.8, 1.0, 2.5};
  const double shares[] = {0.01, 0.4, 0.97};
  for (const int filter :
       {FIREWALL_FILTER_NEAREST, FIREWALL_FILTER_BILINEAR, FIREWALL_FILTER_BICUBIC, FIREWALL_FILTER_BOX}) {
    compare(
        "scale", height, width, 3, 4,
        [&](auto** plan) { return firewall_cuda_scale_plan(plan, 3, height, width, factors, 4, filter); },
        [&](const firewall_images& source, std::uint8_t* out, std::size_t) {
          Bytes scratch(firewall_scale_scratch(height, width));
          return firewall_scale(out, &source, factors, 4, filter, scratch.data(), scratch.size());
        });
    for (const int coded : {0, 1}) {
      compare(
          "residual", height, width, 3, 3,
          [&](auto** plan) {
            return firewall_cuda_residual_plan(plan, 3, height, width, shares, 3, filter, FIREWALL_FILTER_BICUBIC,
                                               coded);
          },
          [&](const firewall_images& source, std::uint8_t* out, std::size_t) {
            Bytes scratch(firewall_residual_scratch(height, width));
            return coded != 0 ? firewall_residual_coded(out, &source, shares, 3, filter, FIREWALL_FILTER_BICUBIC,
                                                        scratch.data(), scratch.size())
                              : firewall_residual(reinterpret_cast<std::int16_t*>(out), &source, shares, 3, filter,
                                                  FIREWALL_FILTER_BICUBIC, scratch.data(), scratch.size());
          });
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (firewall_cuda_usable() != FIREWALL_OK) {
    std::printf("no GPU can be used: %s\n", firewall_cuda_error_text());
    return 77;
  }
  const bool quick = count > 1 && std::strcmp(arguments[1], "--quick") == 0;
  constexpr int kSizes[][2] = {{1, 1},    {17, 33},   {70, 241},  {3, 2},   {8, 8},    {64, 64},
                               {33, 225}, {224, 224}, {480, 640}, {300, 1}, {1, 2000}, {1080, 1920}};
  int sizes = 0;
  for (const auto& [height, width] : kSizes) {
    if (quick && ++sizes > 3) break;
    compare_sweep(height, width);
    compare_operations(height, width);
  }
  std::printf("%d copies compared with the processor\n", copies_compared);
  return firewall::testing::failures == 0 ? 0 : 1;
}
