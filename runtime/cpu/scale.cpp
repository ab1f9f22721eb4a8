#include "scale.hpp"

#include <cstring>

#include "contract.hpp"
#include "firewall/scale.h"
#include "kernels/kernels.hpp"
#include "resample.hpp"

size_t firewall_scale_scratch(int32_t height, int32_t width) {
  using namespace firewall;
  const std::size_t image = image_size(height, width);
  // The turned image, two steps of the resampling, the weights of both sides and what aligns them.
  return image == 0 ? 0 : 3 * image + (taps_memory(height) + taps_memory(width) + 1) * sizeof(std::int32_t);
}

int firewall_scale(uint8_t* destination, const firewall_images* source, const double* factors, int32_t factors_count,
                   int filter, void* scratch, size_t scratch_size) {
  using namespace firewall;
  const std::size_t needed = source == nullptr ? 0 : firewall_scale_scratch(source->height, source->width);
  const int status = check_call(destination, 1, source, factors, factors_count, {scratch, scratch_size}, needed);
  if (status != FIREWALL_OK) return status;
  if (!known_filter(filter)) return FIREWALL_BAD_PARAMETER;
  if (source->count == 0 || factors_count == 0) return FIREWALL_OK;
  for (std::int32_t i = 0; i < factors_count; ++i) {
    if (!allowed_factor(factors[i])) return FIREWALL_BAD_PARAMETER;
  }

  const std::int32_t height = source->height;
  const std::int32_t width = source->width;
  const std::size_t image = image_size(height, width);
  const std::ptrdiff_t row = std::ptrdiff_t{3} * width;
  std::int32_t* const down_memory = align_int32(scratch);
  std::int32_t* const across_memory = down_memory + taps_memory(height);
  auto* turned = reinterpret_cast<std::uint8_t*>(across_memory + taps_memory(width));
  std::uint8_t* first = turned + image;
  std::uint8_t* second = first + image;

  for (std::int32_t n = 0; n < source->count; ++n) {
    kernels().transpose(turned, height, source->data + n * source->image_stride, source->row_stride,
                        static_cast<std::size_t>(height), static_cast<std::size_t>(row));
    for (std::int32_t i = 0; i < factors_count; ++i) {
      const Side down = side_of(height, factors[i]);
      const Side across = side_of(width, factors[i]);
      if (down.window < height || across.window < width) std::memset(destination, 0, image);
      const Taps down_taps = make_taps(height, down.scaled, down.start, down.window, filter, down_memory);
      // Most images of signs are square: then the weights of one side are those of the other.
      const Taps across_taps =
          width == height ? down_taps
                          : make_taps(width, across.scaled, across.start, across.window, filter, across_memory);
      resample(destination + down.margin * row + std::ptrdiff_t{3} * across.margin, row, turned, height, across_taps,
               down_taps, first, second);
      destination += image;
    }
  }
  return FIREWALL_OK;
}
