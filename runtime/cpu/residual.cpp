#include "residual.hpp"

#include <algorithm>

#include "contract.hpp"
#include "firewall/residual.h"
#include "kernels/kernels.hpp"
#include "resample.hpp"

namespace firewall {
namespace {

void store(std::int16_t* destination, int residual) noexcept { *destination = static_cast<std::int16_t>(residual); }

void store(std::uint8_t* destination, int residual) noexcept {
  *destination = static_cast<std::uint8_t>(std::clamp(128 + residual, 0, 255));
}

template <typename Value>
int residual(Value* destination, const firewall_images* source, const double* shares, std::int32_t shares_count,
             int down, int up, void* scratch, std::size_t scratch_size) noexcept {
  const std::size_t needed = source == nullptr ? 0 : firewall_residual_scratch(source->height, source->width);
  const int status =
      check_call(destination, sizeof(Value), source, shares, shares_count, {scratch, scratch_size}, needed);
  if (status != FIREWALL_OK) return status;
  if (!known_filter(down) || !known_filter(up)) return FIREWALL_BAD_PARAMETER;
  if (source->count == 0 || shares_count == 0) return FIREWALL_OK;
  for (std::int32_t i = 0; i < shares_count; ++i) {
    if (!allowed_share(shares[i])) return FIREWALL_BAD_PARAMETER;
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
  std::uint8_t* small = second + image;

  for (std::int32_t n = 0; n < source->count; ++n) {
    const std::uint8_t* pixels = source->data + n * source->image_stride;
    for (std::int32_t i = 0; i < shares_count; ++i) {
      const std::int32_t small_height = kept_pixels(height, shares[i]);
      const std::int32_t small_width = kept_pixels(width, shares[i]);
      const std::ptrdiff_t small_row = std::ptrdiff_t{3} * small_width;
      kernels().transpose(turned, height, pixels, source->row_stride, static_cast<std::size_t>(height),
                          static_cast<std::size_t>(row));
      resample(small, small_row, turned, height, make_taps(width, small_width, 0, small_width, down, across_memory),
               make_taps(height, small_height, 0, small_height, down, down_memory), first, second);
      kernels().transpose(turned, small_height, small, small_row, static_cast<std::size_t>(small_height),
                          static_cast<std::size_t>(small_row));
      std::uint8_t* const enlarged = small;
      resample(enlarged, row, turned, small_height, make_taps(small_width, width, 0, width, up, across_memory),
               make_taps(small_height, height, 0, height, up, down_memory), first, second);
      for (std::int32_t y = 0; y < height; ++y) {
        const std::uint8_t* original = pixels + y * source->row_stride;
        const std::uint8_t* kept = enlarged + y * row;
        for (std::ptrdiff_t x = 0; x < row; ++x) store(destination + x, original[x] - kept[x]);
        destination += row;
      }
    }
  }
  return FIREWALL_OK;
}

}  // namespace
}  // namespace firewall

size_t firewall_residual_scratch(int32_t height, int32_t width) {
  using namespace firewall;
  const std::size_t image = image_size(height, width);
  // The turned image, two steps of the resampling, the small or enlarged image, weights and what aligns them.
  return image == 0 ? 0 : 4 * image + (taps_memory(height) + taps_memory(width) + 1) * sizeof(std::int32_t);
}

int firewall_residual(int16_t* destination, const firewall_images* source, const double* shares, int32_t shares_count,
                      int down, int up, void* scratch, size_t scratch_size) {
  return firewall::residual(destination, source, shares, shares_count, down, up, scratch, scratch_size);
}

int firewall_residual_coded(uint8_t* destination, const firewall_images* source, const double* shares,
                            int32_t shares_count, int down, int up, void* scratch, size_t scratch_size) {
  return firewall::residual(destination, source, shares, shares_count, down, up, scratch, scratch_size);
}
