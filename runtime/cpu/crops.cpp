#include "firewall/crops.h"

#include <algorithm>
#include <cstring>

#include "contract.hpp"
#include "firewall/scale.h"
#include "kernels/kernels.hpp"
#include "resample.hpp"

namespace firewall {
namespace {

constexpr int kFilter = FIREWALL_FILTER_BILINEAR;

// int32 values of the weights of one side, for any number of source pixels up to `from`: fewer need fewer.
std::size_t weights_memory(std::int32_t from, std::int32_t to) noexcept { return taps_memory(from, to, kFilter); }

bool within(const firewall_region& region, const firewall_images& frame) noexcept {
  return region.x >= 0 && region.y >= 0 && region.width >= 1 && region.height >= 1 &&
         region.width <= frame.width - region.x && region.height <= frame.height - region.y;
}

}  // namespace
}  // namespace firewall

size_t firewall_crops_scratch(int32_t region_height, int32_t region_width, int32_t height, int32_t width) {
  using namespace firewall;
  if (image_size(region_height, region_width) == 0 || image_size(height, width) == 0) return 0;
  // The turned region, two steps of the resampling, the weights of both sides and what aligns them.
  const std::size_t numbers = weights_memory(region_height, height) + weights_memory(region_width, width) + 1;
  return image_size(region_height, region_width) + 2 * image_size(region_height, width) +
         numbers * sizeof(std::int32_t);
}

int firewall_crops(uint8_t* destination, const firewall_images* frame, const firewall_region* regions, int32_t count,
                   int32_t height, int32_t width, void* scratch, size_t scratch_size) {
  using namespace firewall;
  if (frame == nullptr || (count > 0 && (destination == nullptr || regions == nullptr || scratch == nullptr))) {
    return FIREWALL_NULL_POINTER;
  }
  const std::size_t size = image_size(height, width);
  if (count < 0 || size == 0 || frame->count != 1) return FIREWALL_BAD_SIZE;
  std::size_t read = 0;
  if (frame->data == nullptr) return FIREWALL_NULL_POINTER;
  if (image_size(frame->height, frame->width) == 0) return FIREWALL_BAD_SIZE;
  const int status = check_strides(*frame, 3, read);
  if (status != FIREWALL_OK || count == 0) return status;
  std::int32_t most_rows = 1, most_columns = 1;
  for (std::int32_t i = 0; i < count; ++i) {
    if (!within(regions[i], *frame)) return FIREWALL_BAD_PARAMETER;
    most_rows = std::max(most_rows, regions[i].height);
    most_columns = std::max(most_columns, regions[i].width);
  }
  if (scratch_size < firewall_crops_scratch(most_rows, most_columns, height, width)) return FIREWALL_SCRATCH_TOO_SMALL;
  const Buffer result{destination, size * static_cast<std::size_t>(count)}, source{frame->data, read};
  const Buffer own{scratch, scratch_size}, list{regions, sizeof(firewall_region) * static_cast<std::size_t>(count)};
  if (overlap(result, source) || overlap(result, own) || overlap(result, list) || overlap(own, source) ||
      overlap(own, list)) {
    return FIREWALL_OVERLAP;
  }

  std::int32_t* const down_memory = align_int32(scratch);
  std::int32_t* const across_memory = down_memory + weights_memory(most_rows, height);
  auto* turned = reinterpret_cast<std::uint8_t*>(across_memory + weights_memory(most_columns, width));
  std::uint8_t* first = turned + image_size(most_rows, most_columns);
  std::uint8_t* second = first + image_size(most_rows, width);
  const std::ptrdiff_t row = std::ptrdiff_t{3} * width;
  for (std::int32_t i = 0; i < count; ++i, destination += size) {
    const firewall_region& region = regions[i];
    const std::uint8_t* pixels = frame->data + region.y * frame->row_stride + std::ptrdiff_t{3} * region.x;
    if (region.width == width && region.height == height) {
      for (std::int32_t y = 0; y < height; ++y) {
        std::memcpy(destination + y * row, pixels + y * frame->row_stride, static_cast<std::size_t>(row));
      }
      continue;
    }
    kernels().transpose(turned, region.height, pixels, frame->row_stride, static_cast<std::size_t>(region.height),
                        static_cast<std::size_t>(3) * static_cast<std::size_t>(region.width));
    const Taps down = make_taps(region.height, height, 0, height, kFilter, down_memory);
    const bool square = region.width == region.height && width == height;
    const Taps across = square ? down : make_taps(region.width, width, 0, width, kFilter, across_memory);
    resample(destination, row, turned, region.height, across, down, first, second);
  }
  return FIREWALL_OK;
}
