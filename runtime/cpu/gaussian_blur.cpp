#include "gaussian_blur.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "contract.hpp"
#include "firewall/gaussian_blur.h"

namespace firewall {

Box box_of(float radius) noexcept {
  const float variance = radius * radius / static_cast<float>(kBoxPasses);
  const auto length = static_cast<float>(std::sqrt(12.0 * static_cast<double>(variance) + 1.0));
  const auto whole = static_cast<float>(std::floor((static_cast<double>(length) - 1.0) / 2.0));
  float fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  fraction /= 6 * (variance - (whole + 1) * (whole + 1));
  const float extent = whole + fraction;
  const auto reach = static_cast<std::uint32_t>(extent);
  constexpr std::uint32_t kOne = std::uint32_t{1} << kBoxBits;
  const auto inner = static_cast<std::uint32_t>(static_cast<float>(kOne) / (extent * 2 + 1));
  return {static_cast<int>(reach), inner, (kOne - (reach * 2 + 1) * inner) / 2};
}

namespace {

// One pass of a box that is too wide for the kernel, one lane at a time.
void wide_pass(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
               std::ptrdiff_t source_stride, int lines, const Box& box) noexcept {
  const auto at = [=](int y) -> std::uint32_t { return source[std::clamp(y, 0, lines - 1) * source_stride]; };
  std::uint32_t inner = 0;
  for (int y = -box.radius; y <= box.radius; ++y) inner += at(y);
  for (int y = 0; y < lines; ++y) {
    const std::uint32_t outer = at(y - box.radius - 1) + at(y + box.radius + 1);
    const std::uint32_t total = inner * box.inner + outer * box.outer + (std::uint32_t{1} << (kBoxBits - 1));
    destination[y * destination_stride] = static_cast<std::uint8_t>(total >> kBoxBits);
    inner += at(y + box.radius + 1) - at(y - box.radius);
  }
}

void blur_lines(std::uint8_t* destination, const std::uint8_t* source, std::ptrdiff_t stride, int lines,
                std::size_t lanes, const Box& box, std::uint8_t* columns) noexcept {
  if (box.radius <= kWidestBox) {
    kernels().box_blur(destination, stride, source, stride, lines, lanes, box, columns);
    return;
  }
  for (std::size_t i = 0; i < lanes; ++i) {
    wide_pass(columns, 1, source + i, stride, lines, box);
    wide_pass(columns + lines, 1, columns, 1, lines, box);
    wide_pass(destination + i, stride, columns + lines, 1, lines, box);
  }
}

}  // namespace
}  // namespace firewall

size_t firewall_gaussian_blur_scratch(int32_t height, int32_t width) {
  const std::size_t image = firewall::image_size(height, width);
  return image == 0 ? 0 : 3 * image + firewall::box_columns_size(std::max(height, width));
}

int firewall_gaussian_blur(uint8_t* destination, const firewall_images* source, const float* radii, int32_t radii_count,
                           void* scratch, size_t scratch_size) {
  using namespace firewall;
  const std::size_t needed = source == nullptr ? 0 : firewall_gaussian_blur_scratch(source->height, source->width);
  const int status = check_call(destination, 1, source, radii, radii_count, {scratch, scratch_size}, needed);
  if (status != FIREWALL_OK || source->count == 0 || radii_count == 0) return status;
  for (std::int32_t i = 0; i < radii_count; ++i) {
    // Written so that NaN fails.
    if (!(radii[i] >= 0.0F && radii[i] <= FIREWALL_MAX_RADIUS)) return FIREWALL_BAD_PARAMETER;
  }

  const std::int32_t height = source->height;
  const std::int32_t width = source->width;
  const std::size_t image = image_size(height, width);
  const std::size_t row = std::size_t{3} * static_cast<std::size_t>(width);
  // Turned: line x holds the three colours of column x, so a blur along rows is a blur across lines.
  const std::size_t turned_line = std::size_t{3} * static_cast<std::size_t>(height);
  auto* turned = static_cast<std::uint8_t*>(scratch);
  std::uint8_t* blurred = turned + image;
  std::uint8_t* rows = blurred + image;
  std::uint8_t* columns = rows + image;

  for (std::int32_t n = 0; n < source->count; ++n) {
    const std::uint8_t* pixels = source->data + n * source->image_stride;
    kernels().transpose(turned, height, pixels, source->row_stride, static_cast<std::size_t>(height), row);
    for (std::int32_t i = 0; i < radii_count; ++i) {
      if (radii[i] == 0.0F) {
        for (std::int32_t y = 0; y < height; ++y) {
          std::memcpy(destination + static_cast<std::size_t>(y) * row, pixels + y * source->row_stride, row);
        }
      } else {
        const Box box = box_of(radii[i]);
        blur_lines(blurred, turned, static_cast<std::ptrdiff_t>(turned_line), width, turned_line, box, columns);
        kernels().transpose(rows, static_cast<std::ptrdiff_t>(row), blurred, height, row,
                            static_cast<std::size_t>(height));
        blur_lines(destination, rows, static_cast<std::ptrdiff_t>(row), height, row, box, columns);
      }
      destination += image;
    }
  }
  return FIREWALL_OK;
}
