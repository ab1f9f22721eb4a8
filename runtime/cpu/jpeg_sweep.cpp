// The C interface of the sweep: checks, memory, threads. The arithmetic is in jpeg/kernel.hpp.
#include "firewall/jpeg_sweep.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <initializer_list>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "contract.hpp"
#include "firewall/simd.hpp"
#include "jpeg/quantisation.hpp"
#include "jpeg/resized.hpp"
#include "jpeg/sweep.hpp"

namespace firewall::jpeg {
namespace {

int up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

std::size_t size(int value) { return static_cast<std::size_t>(value); }

bool allowed(const firewall_jpeg_options& options) {
  if (options.sampling < FIREWALL_JPEG_444 || options.sampling > FIREWALL_JPEG_GREY) return false;
  if (options.format < FIREWALL_JPEG_UINT8 || options.format > FIREWALL_JPEG_FLOAT16) return false;
  if (options.threads < 1 || options.threads > FIREWALL_JPEG_MAX_THREADS) return false;
  if (options.result_height != 0 && !known_filter(options.filter)) return false;
  if (options.format == FIREWALL_JPEG_UINT8) return true;
  for (int c = 0; c < (options.sampling == FIREWALL_JPEG_GREY ? 1 : 3); ++c) {
    if (!std::isfinite(options.mean[c]) || !std::isfinite(options.std[c]) || options.std[c] <= 0) return false;
  }
  return true;
}

bool side_allowed(int side) { return side >= 1 && side <= FIREWALL_MAX_SIDE; }

bool result_allowed(const firewall_jpeg_options& options) {
  if (options.result_height == 0 && options.result_width == 0) return true;
  return side_allowed(options.result_height) && side_allowed(options.result_width);
}

// The sides of the result, for an image of height x width.
struct Sides {
  int height, width;
};

Sides result_of(int height, int width, const firewall_jpeg_options& options) {
  return options.result_height == 0 ? Sides{height, width} : Sides{options.result_height, options.result_width};
}

bool resized(int height, int width, const firewall_jpeg_options& options) {
  const Sides result = result_of(height, width, options);
  return result.height != height || result.width != width;
}

int channels(const firewall_jpeg_options& options) { return options.sampling == FIREWALL_JPEG_GREY ? 1 : 3; }

std::size_t number_bytes(const firewall_jpeg_options& options) {
  return options.format == FIREWALL_JPEG_UINT8 ? 1 : options.format == FIREWALL_JPEG_FLOAT32 ? 4 : 2;
}

Plan make_plan(const Kernel& kernel, int height, int width, const firewall_jpeg_options& options) {
  const int lanes = kernel.lanes;
  Plan plan{};
  plan.width = width;
  plan.height = height;
  plan.grey = options.sampling == FIREWALL_JPEG_GREY;
  plan.across = options.sampling == FIREWALL_JPEG_420 || options.sampling == FIREWALL_JPEG_422 ? 2 : 1;
  plan.down = options.sampling == FIREWALL_JPEG_420 ? 2 : 1;
  plan.chroma_width = (width + plan.across - 1) / plan.across;
  plan.chroma_height = (height + plan.down - 1) / plan.down;
  plan.fancy = plan.chroma_width > 2;  // libjpeg repeats chroma of one or two columns
  plan.luma_rows = up(height, 8) / 8;
  plan.luma_groups = up(width, 8 * lanes) / (8 * lanes);
  plan.chroma_rows = up(plan.chroma_height, 8) / 8;
  plan.chroma_groups = up(2 * up(plan.chroma_width, 8) / 8, lanes) / lanes;
  plan.bands = plan.grey ? plan.luma_rows : plan.chroma_rows;
  const int pitch = up(width, 16 * lanes);
  plan.pitch = size(pitch);
  plan.chroma_pitch = size(2 * pitch / plan.across);
  plan.sums_bytes = size(up(2 * kRowMargin + 2 * pitch, kAlignment));
  plan.format = resized(height, width, options) ? Format::uint8 : static_cast<Format>(options.format);
  for (int c = 0; c < channels(options) && options.format != FIREWALL_JPEG_UINT8; ++c) {
    plan.scale[c] = static_cast<float>(1.0 / (255.0 * options.std[c]));
    plan.shift[c] = static_cast<float>(-options.mean[c] / options.std[c]);
  }
  return plan;
}

// Hands out pieces of the scratch; with a null base it only counts. Sides are at most FIREWALL_MAX_SIDE, so nothing
// here comes near the end of a 64-bit size_t; on 32 bits `scratch_bytes` refuses what is too large.
class Arena {
 public:
  explicit Arena(unsigned char* base) : base_(base) {}

  template <typename T>
  T* take(std::uint64_t count) {
    const std::uint64_t at = used_;
    used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  std::uint64_t used() const { return used_; }
  void back_to(std::uint64_t used) { used_ = used; }

 private:
  unsigned char* base_;
  std::uint64_t used_ = 0;
};

struct Memory {
  Coefficients coefficients;
  std::int32_t* taps_across;  // both only if the copies are resized
  std::int32_t* taps_down;
  Band band[FIREWALL_JPEG_MAX_THREADS];
  Canvas canvas[FIREWALL_JPEG_MAX_THREADS];
  Strip strip[FIREWALL_JPEG_MAX_THREADS];
};

Resizing make_resizing(int height, int width, const firewall_jpeg_options& options) {
  const Sides result = result_of(height, width, options);
  return {result.height, result.width, options.filter, channels(options), static_cast<Format>(options.format), {}, {}};
}

bool square(int height, int width, const Resizing& resizing) {
  return height == width && resizing.height == resizing.width;
}

Strip lay_out_strip(Arena& arena, const Plan& plan, const Resizing& resizing) {
  const std::uint64_t line = size(strip_line(resizing.channels));
  const std::uint64_t row = size(resizing.channels) * static_cast<std::uint64_t>(resizing.width);
  const std::uint64_t window = size(window_rows(plan.height, resizing));
  Strip strip;
  strip.turned = arena.take<std::uint8_t>(line * size(plan.width));
  // The rendered rows are done with once they are turned.
  strip.rows = strip.across = arena.take<std::uint8_t>(line * size(std::max(plan.width, resizing.width)));
  strip.window = arena.take<std::uint8_t>(window * row);
  strip.row = arena.take<std::uint8_t>(row + kAlignment);
  return strip;
}

std::uint64_t lay_out(const Plan& plan, const Resizing& resizing, int lanes, int threads, unsigned char* base,
                      Memory& memory) {
  Arena arena(base);
  const bool resize = resizing.height != plan.height || resizing.width != plan.width;
  const std::uint64_t luma = size(plan.luma_rows) * static_cast<std::uint64_t>(plan.luma_groups);
  const std::uint64_t chroma = plan.grey ? 0 : size(plan.chroma_rows) * static_cast<std::uint64_t>(plan.chroma_groups);
  const std::uint64_t group = size(kBlock * lanes);
  memory.coefficients.luma = arena.take<std::int16_t>(luma * group);
  memory.coefficients.chroma = arena.take<std::int16_t>(chroma * group);
  if (resize) {
    memory.taps_across = arena.take<std::int32_t>(taps_memory(plan.width, resizing.width, resizing.filter));
    memory.taps_down = memory.taps_across;
    // Most images of signs are square: then the weights of one side are those of the other.
    if (!square(plan.height, plan.width, resizing)) {
      memory.taps_down = arena.take<std::int32_t>(taps_memory(plan.height, resizing.height, resizing.filter));
    }
  }
  const std::uint64_t chunk = size(48 * lanes);
  for (int t = 0; t < threads; ++t) {
    // No thread needs both at a time.
    const std::uint64_t before = arena.used();
    Band& band = memory.band[t];
    band.luma = arena.take<std::int8_t>(8 * size(plan.down) * plan.pitch);
    band.chroma = arena.take<std::int8_t>(plan.grey ? 0 : 8 * plan.chroma_pitch);
    band.blue = arena.take<std::int8_t>(plan.grey ? 0 : size(plan.down) * plan.pitch);
    band.red = arena.take<std::int8_t>(plan.grey ? 0 : size(plan.down) * plan.pitch);
    band.pixels = arena.take<std::uint8_t>(chunk);
    const std::uint64_t after_band = arena.used();
    arena.back_to(before);
    Canvas& canvas = memory.canvas[t];
    canvas.luma = arena.take<std::uint8_t>(8 * plan.pitch);
    canvas.ring = arena.take<std::uint8_t>(plan.grey ? 0 : kRingRows * plan.chroma_pitch);
    canvas.sums = arena.take<std::uint8_t>(plan.grey ? 0 : plan.sums_bytes);
    canvas.planes = arena.take<std::uint8_t>(plan.grey || plan.format == Format::uint8 ? 0 : 3 * plan.pitch);
    canvas.tail = arena.take<std::uint8_t>(chunk);
    if (resize) memory.strip[t] = lay_out_strip(arena, plan, resizing);
    arena.back_to(std::max(after_band, arena.used()));
  }
  return arena.used() + kAlignment;  // the caller's buffer may begin anywhere
}

// work(thread, task) for every task, on the calling thread and up to threads - 1 more. A thread that the system doesn't
// give is done without.
template <typename Work>
void share(int threads, int tasks, const Work& work) noexcept {
  threads = std::min(threads, tasks);
  std::atomic<int> next{0};
  const auto run = [&](int thread) {
    for (int task = next++; task < tasks; task = next++) work(thread, task);
  };
  std::thread others[FIREWALL_JPEG_MAX_THREADS];
  for (int t = 1; t < threads; ++t) {
    try {
      others[t] = std::thread(run, t);
    } catch (...) {
      break;
    }
  }
  run(0);
  for (std::thread& other : others) {
    if (other.joinable()) other.join();
  }
}

// Bytes of a copy of an image of height x width.
std::uint64_t copy_bytes(int height, int width, const firewall_jpeg_options& options) {
  const Sides result = result_of(height, width, options);
  return size(result.height) * static_cast<std::uint64_t>(result.width) * size(channels(options)) *
         number_bytes(options);
}

const Kernel* kernel_of(std::int32_t instructions) noexcept {
  switch (instructions) {
    case FIREWALL_JPEG_BEST:
      return kernel_of(firewall_jpeg_best());
    case FIREWALL_JPEG_PORTABLE:
      return &portable_kernel;
#if defined(__x86_64__)
    case FIREWALL_JPEG_SSE4:
      return firewall_jpeg_can_run(instructions) ? &sse4_kernel : nullptr;
    case FIREWALL_JPEG_AVX2:
      return firewall_jpeg_can_run(instructions) ? &avx2_kernel : nullptr;
    case FIREWALL_JPEG_AVX512:
      return firewall_jpeg_can_run(instructions) ? &avx512_kernel : nullptr;
#elif defined(__aarch64__)
    case FIREWALL_JPEG_NEON:
      return &neon_kernel;
#endif
    default:
      return nullptr;
  }
}

#if defined(__x86_64__)
bool has(unsigned features) noexcept {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & features) == features;
}
#endif

}  // namespace

std::size_t scratch_bytes(const Kernel& kernel, int height, int width, const firewall_jpeg_options& options) noexcept {
  if (!side_allowed(height) || !side_allowed(width) || !result_allowed(options) || !allowed(options)) return 0;
  Memory memory;
  const std::uint64_t bytes = lay_out(make_plan(kernel, height, width, options), make_resizing(height, width, options),
                                      kernel.lanes, options.threads, nullptr, memory);
  return bytes <= SIZE_MAX ? static_cast<std::size_t>(bytes) : 0;
}

int sweep(const Kernel& kernel, void* destination, std::size_t destination_size, const firewall_images& source,
          const std::int32_t* qualities, std::int32_t qualities_count, const firewall_jpeg_options& options,
          void* scratch, std::size_t scratch_size) noexcept {
  if (!allowed(options)) return FIREWALL_BAD_PARAMETER;
  if (!side_allowed(source.height) || !side_allowed(source.width) || !result_allowed(options)) return FIREWALL_BAD_SIZE;
  if (source.count < 0 || qualities_count < 0) return FIREWALL_BAD_SIZE;
  if (source.count == 0 || qualities_count == 0) return FIREWALL_OK;
  if (destination == nullptr || source.data == nullptr || qualities == nullptr || scratch == nullptr) {
    return FIREWALL_NULL_POINTER;
  }
  for (std::int32_t i = 0; i < qualities_count; ++i) {
    if (qualities[i] < 1 || qualities[i] > 100) return FIREWALL_BAD_PARAMETER;
  }
  std::size_t read;
  const int strides = check_strides(source, channels(options), read);
  if (strides != FIREWALL_OK) return strides;
  const std::size_t bytes =
      firewall_jpeg_sweep_bytes(source.count, source.height, source.width, qualities_count, &options);
  if (bytes == 0 || destination_size < bytes) return FIREWALL_BAD_SIZE;
  if (reinterpret_cast<std::uintptr_t>(destination) % number_bytes(options) != 0) return FIREWALL_BAD_PARAMETER;
  const std::size_t needed = scratch_bytes(kernel, source.height, source.width, options);
  if (needed == 0 || scratch_size < needed) return FIREWALL_SCRATCH_TOO_SMALL;
  const Buffer out{destination, bytes}, in{source.data, read}, room{scratch, needed};
  const Buffer list{qualities, static_cast<std::size_t>(qualities_count) * sizeof *qualities};
  if (overlap(out, in) || overlap(out, room) || overlap(room, in) || overlap(out, list) || overlap(room, list)) {
    return FIREWALL_OVERLAP;
  }

  const Plan plan = make_plan(kernel, source.height, source.width, options);
  auto* base = static_cast<unsigned char*>(scratch);
  base += (kAlignment - reinterpret_cast<std::uintptr_t>(base) % kAlignment) % kAlignment;
  Memory memory;
  Resizing resizing = make_resizing(source.height, source.width, options);
  lay_out(plan, resizing, kernel.lanes, options.threads, base, memory);
  const bool resize = resized(source.height, source.width, options);
  if (resize) {
    resizing.across = make_taps(source.width, resizing.width, 0, resizing.width, resizing.filter, memory.taps_across);
    resizing.down =
        square(source.height, source.width, resizing)
            ? resizing.across
            : make_taps(source.height, resizing.height, 0, resizing.height, resizing.filter, memory.taps_down);
  }
  const auto copy = static_cast<std::size_t>(copy_bytes(source.height, source.width, options));
  auto* to = static_cast<unsigned char*>(destination);
  for (std::int32_t i = 0; i < source.count; ++i) {
    const std::uint8_t* pixels = source.data + (source.count > 1 ? i * source.image_stride : 0);
    const auto analyse = [&](int thread, int band) {
      kernel.prepare(plan, pixels, source.row_stride, band, band + 1, memory.band[thread], memory.coefficients);
    };
    const auto render = [&](int thread, int index) {
      const Quantiser& luma = quantiser(0, qualities[index]);
      const Quantiser& chroma = quantiser(1, qualities[index]);
      unsigned char* at = to + static_cast<std::size_t>(index) * copy;
      if (resize) {
        render_resized(kernel, plan, memory.coefficients, luma, chroma, memory.canvas[thread], resizing,
                       memory.strip[thread], at);
      } else {
        kernel.render(plan, memory.coefficients, luma, chroma, memory.canvas[thread], 0, plan.luma_rows, at);
      }
    };
    share(options.threads, plan.bands, analyse);
    share(options.threads, qualities_count, render);
    to += static_cast<std::size_t>(qualities_count) * copy;
  }
  return FIREWALL_OK;
}

}  // namespace firewall::jpeg

using firewall::jpeg::kernel_of;

extern "C" {

int firewall_jpeg_can_run(int32_t instructions) {
  switch (instructions) {
    case FIREWALL_JPEG_BEST:
    case FIREWALL_JPEG_PORTABLE:
      return 1;
#if defined(__x86_64__)
    case FIREWALL_JPEG_AVX2: {
      const firewall::SimdLevel level = firewall::simd_level();
      static const bool f16c = firewall::jpeg::has(bit_F16C);
      return f16c && (level == firewall::SimdLevel::avx2 || level == firewall::SimdLevel::avx512) ? 1 : 0;
    }
    case FIREWALL_JPEG_SSE4: {
      static const bool sse4 = firewall::jpeg::has(bit_SSSE3 | bit_SSE4_1);
      return sse4 ? 1 : 0;
    }
    case FIREWALL_JPEG_AVX512:
      return firewall::simd_level() == firewall::SimdLevel::avx512 ? 1 : 0;
#elif defined(__aarch64__)
    case FIREWALL_JPEG_NEON:
      return 1;
#endif
    default:
      return 0;
  }
}

int32_t firewall_jpeg_best(void) {
  for (const int32_t instructions :
       {FIREWALL_JPEG_AVX512, FIREWALL_JPEG_AVX2, FIREWALL_JPEG_SSE4, FIREWALL_JPEG_NEON}) {
    if (firewall_jpeg_can_run(instructions)) return instructions;
  }
  return FIREWALL_JPEG_PORTABLE;
}

size_t firewall_jpeg_sweep_scratch(int32_t height, int32_t width, const firewall_jpeg_options* options) {
  if (options == nullptr) return 0;
  const firewall::jpeg::Kernel* kernel = kernel_of(options->instructions);
  return kernel == nullptr ? 0 : firewall::jpeg::scratch_bytes(*kernel, height, width, *options);
}

size_t firewall_jpeg_sweep_bytes(int32_t count, int32_t height, int32_t width, int32_t qualities_count,
                                 const firewall_jpeg_options* options) {
  using namespace firewall::jpeg;
  if (options == nullptr || !allowed(*options) || !result_allowed(*options)) return 0;
  if (!side_allowed(height) || !side_allowed(width)) return 0;
  if (count < 0 || qualities_count < 0) return 0;
  std::size_t bytes;
  if (__builtin_mul_overflow(copy_bytes(height, width, *options), static_cast<std::size_t>(count), &bytes) ||
      __builtin_mul_overflow(bytes, static_cast<std::size_t>(qualities_count), &bytes)) {
    return 0;
  }
  return bytes;
}

int firewall_jpeg_sweep(void* destination, size_t destination_size, const firewall_images* source,
                        const int32_t* qualities, int32_t qualities_count, const firewall_jpeg_options* options,
                        void* scratch, size_t scratch_size) {
  if (source == nullptr || options == nullptr) return FIREWALL_NULL_POINTER;
  const firewall::jpeg::Kernel* kernel = kernel_of(options->instructions);
  if (kernel == nullptr) return FIREWALL_BAD_PARAMETER;
  return firewall::jpeg::sweep(*kernel, destination, destination_size, *source, qualities, qualities_count, *options,
                               scratch, scratch_size);
}

}  // extern "C"
