// Pictures, and a call of the sweep with buffers of exactly the size that is asked for, so that the sanitizers see one
// byte too many: for the tests of the sweep.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../../runtime/cpu/jpeg/sweep.hpp"
#include "expect.hpp"
#include "firewall/jpeg_sweep.h"

#if defined(FIREWALL_TEST_EMULATED)
extern const firewall::jpeg::Kernel avx512_emulated_kernel;
#endif

namespace firewall::testing {

using Bytes = std::vector<std::uint8_t>;

inline std::uint32_t next(std::uint32_t& state) { return state = state * 1664525u + 1013904223u; }

// kind 0 noise, 1 black and white noise, 2 a slope with a little noise, 3 one colour.
inline Bytes picture(int bytes, int kind, std::uint32_t seed) {
  Bytes pixels(static_cast<std::size_t>(bytes));
  for (int i = 0; i < bytes; ++i) {
    const std::uint32_t random = next(seed) >> 24;
    const std::uint32_t slope = (static_cast<std::uint32_t>(i) + random / 32) % 256;
    const std::uint32_t values[4] = {random, random < 128 ? 0u : 255u, slope, 200u};
    pixels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(values[kind]);
  }
  return pixels;
}

inline firewall_jpeg_options options_of(int sampling, int format, int threads = 1,
                                        int instructions = FIREWALL_JPEG_BEST) {
  return {sampling, format, threads, instructions, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, 0, 0, 0};
}

inline firewall_images images_of(const Bytes& pixels, int height, int width, int channels) {
  return {pixels.data(), 0, std::ptrdiff_t{channels} * width, 1, height, width};
}

inline Bytes sweep(const Bytes& pixels, int height, int width, const std::vector<std::int32_t>& qualities,
                   const firewall_jpeg_options& options, const firewall::jpeg::Kernel* kernel = nullptr) {
  const int channels = options.sampling == FIREWALL_JPEG_GREY ? 1 : 3;
  const auto count = static_cast<std::int32_t>(qualities.size());
  Bytes out(firewall_jpeg_sweep_bytes(1, height, width, count, &options), 7);
  const firewall_images source = images_of(pixels, height, width, channels);
  int status;
  if (kernel == nullptr) {
    Bytes scratch(firewall_jpeg_sweep_scratch(height, width, &options));
    status = firewall_jpeg_sweep(out.data(), out.size(), &source, qualities.data(), count, &options, scratch.data(),
                                 scratch.size());
  } else {
    Bytes scratch(firewall::jpeg::scratch_bytes(*kernel, height, width, options));
    status = firewall::jpeg::sweep(*kernel, out.data(), out.size(), source, qualities.data(), count, options,
                                   scratch.data(), scratch.size());
  }
  EXPECT(status == FIREWALL_OK);
  return out;
}

// CRC-32, as Python's zlib.crc32(bytes, crc).
inline std::uint32_t checked(const Bytes& bytes, std::uint32_t crc) {
  static const std::vector<std::uint32_t> table = [] {
    std::vector<std::uint32_t> entries(256);
    for (std::uint32_t i = 0; i < 256; ++i) {
      entries[i] = i;
      for (int bit = 0; bit < 8; ++bit) entries[i] = entries[i] >> 1 ^ (entries[i] % 2 * 0xedb88320u);
    }
    return entries;
  }();
  crc = ~crc;
  for (const std::uint8_t byte : bytes) crc = crc >> 8 ^ table[(crc ^ byte) % 256];
  return ~crc;
}

// An instruction set that can run here, or the kernel of a test.
struct Contender {
  std::string name;
  int instructions;
  const firewall::jpeg::Kernel* kernel;
};

inline std::vector<Contender> contenders() {
  std::vector<Contender> found;
  const char* const names[] = {"best", "plain C++", "AVX2", "AVX-512", "NEON", "SSE4"};
  for (int i = FIREWALL_JPEG_BEST; i <= FIREWALL_JPEG_SSE4; ++i) {
    if (firewall_jpeg_can_run(i)) found.push_back({names[i], i, nullptr});
  }
#if defined(FIREWALL_TEST_EMULATED)
  if (firewall_jpeg_can_run(FIREWALL_JPEG_AVX2)) {
    found.push_back({"AVX-512, emulated", FIREWALL_JPEG_BEST, &avx512_emulated_kernel});
  }
#endif
  return found;
}

void test_jpeg_resized();  // test_jpeg_resized.cpp

}  // namespace firewall::testing
