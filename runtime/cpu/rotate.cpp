#include "rotate.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "contract.hpp"
#include "firewall/rotate.h"

namespace firewall {
namespace {

// Rounded to 15 decimals as the definition does it, by way of the decimal text.
double fifteen_decimals(double value) noexcept {
  char text[40];
  std::snprintf(text, sizeof(text), "%.15f", value);
  return std::strtod(text, nullptr);
}

std::int64_t fixed(double value) noexcept {
  return static_cast<std::int64_t>(std::floor(value * (1 << kFixedBits) + 0.5));
}

}  // namespace

Affine affine_of(double degrees, std::int32_t height, std::int32_t width) noexcept {
  double turn = std::fmod(degrees, 360.0);
  if (turn < 0.0) turn += 360.0;
  const double radians = -(turn * (3.14159265358979323846 / 180.0));
  const double cosine = fifteen_decimals(std::cos(radians));
  const double sine = fifteen_decimals(std::sin(radians));
  const double minus_sine = fifteen_decimals(-std::sin(radians));
  const double centre_x = width / 2.0;
  const double centre_y = height / 2.0;
  const double x_origin = cosine * -centre_x + sine * -centre_y + centre_x;
  const double y_origin = minus_sine * -centre_x + cosine * -centre_y + centre_y;
  // The middle of the first pixel is at (0.5, 0.5).
  return {fixed(cosine),     fixed(sine),   fixed(x_origin + cosine * 0.5 + sine * 0.5),
          fixed(minus_sine), fixed(cosine), fixed(y_origin + minus_sine * 0.5 + cosine * 0.5)};
}

namespace {

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) noexcept {  // b > 0
  return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

// Narrows [first, last) to the x for which 0 <= start + x * step < side pixels.
void narrow(std::int64_t start, std::int64_t step, std::int64_t side, std::int64_t& first,
            std::int64_t& last) noexcept {
  const std::int64_t end = side << kFixedBits;
  if (step == 0) {
    if (start < 0 || start >= end) last = first;
  } else if (step > 0) {
    first = std::max(first, ceil_divide(-start, step));
    last = std::min(last, ceil_divide(end - start, step));
  } else {
    first = std::max(first, ceil_divide(start - end + 1, -step));
    last = std::min(last, ceil_divide(start + 1, -step));
  }
}

// Copies `size` bytes in blocks that may reach over their end, where neither limit forbids it.
constexpr std::ptrdiff_t kBlock = 32;

inline void copy_run(std::uint8_t* to, const std::uint8_t* to_limit, const std::uint8_t* from,
                     const std::uint8_t* from_limit, std::ptrdiff_t size) noexcept {
  const std::ptrdiff_t most = size + kBlock;
  if (to_limit - to < most || from_limit - from < most) {
    std::memcpy(to, from, static_cast<std::size_t>(size));
    return;
  }
  for (std::ptrdiff_t i = 0; i < size; i += kBlock) std::memcpy(to + i, from + i, static_cast<std::size_t>(kBlock));
}

// At a small angle a row of the result is made of runs: neighbours in one row of the source. A run ends where the
// source goes to the next row, or where it stays at the same column because a step is a little less than a pixel.
//
// Both ends come at almost regular distances, one of two neighbouring lengths: no division is needed to find them.
struct Events {
  std::int64_t step;    // > 0: what a position loses with every pixel; it meets its end when it would be negative
  std::int64_t length;  // floor(2^16 / step)

  explicit Events(std::int64_t s) noexcept : step(s), length(s > 0 ? (std::int64_t{1} << kFixedBits) / s : 0) {}

  // Pixels from a position of 0 <= left < 2^16, the one at it counted, to the end. Anywhere in a row.
  std::int64_t first(std::int64_t left) const noexcept { return step > 0 ? left / step + 1 : kNever; }

  // The same just behind an end, where left >= 2^16 - step.
  std::int64_t next(std::int64_t left) const noexcept { return left - length * step >= 0 ? length + 1 : length; }

  static constexpr std::int64_t kNever = std::int64_t{1} << 40;
};

bool has_runs(const Affine& affine) noexcept {
  constexpr std::int64_t kOne = std::int64_t{1} << kFixedBits;
  return affine.x_along_x <= kOne && affine.x_along_x > kOne - kOne / 16 && std::abs(affine.y_along_x) <= kOne / 4;
}

struct Source {
  const std::uint8_t* pixels;
  const std::uint8_t* limit;  // behind the last pixel
  std::ptrdiff_t row_stride;

  const std::uint8_t* at(std::int64_t x, std::int64_t y) const noexcept {
    return pixels + static_cast<std::ptrdiff_t>(y >> kFixedBits) * row_stride +
           static_cast<std::ptrdiff_t>(x >> kFixedBits) * 3;
  }
};

void copy_runs(std::uint8_t* row, const std::uint8_t* row_limit, const Source& source, std::int64_t x, std::int64_t y,
               std::int64_t first, std::int64_t last, const Affine& affine, const Events& columns,
               const Events& rows) noexcept {
  constexpr std::int64_t kMask = (std::int64_t{1} << kFixedBits) - 1;
  // What is left before the end, in both directions of y.
  const auto left = [&](std::int64_t position) {
    return affine.y_along_x < 0 ? position & kMask : kMask - (position & kMask);
  };
  std::int64_t at = first;
  std::int64_t column_end = at + columns.first((x + at * affine.x_along_x) & kMask);
  std::int64_t row_end = at + rows.first(left(y + at * affine.y_along_x));
  while (at < last) {
    const std::int64_t end = std::min(last, std::min(column_end, row_end));
    copy_run(row + 3 * at, row_limit, source.at(x + at * affine.x_along_x, y + at * affine.y_along_x), source.limit,
             3 * (end - at));
    at = end;
    if (at == column_end) column_end = at + columns.next((x + at * affine.x_along_x) & kMask);
    if (at == row_end) row_end = at + rows.next(left(y + at * affine.y_along_x));
  }
}

void copy_pixels(std::uint8_t* row, const Source& source, std::int64_t x, std::int64_t y, std::int64_t first,
                 std::int64_t last, const Affine& affine) noexcept {
  x += first * affine.x_along_x;
  y += first * affine.y_along_x;
  for (std::int64_t at = first; at < last; ++at) {
    std::memcpy(row + 3 * at, source.at(x, y), 3);
    x += affine.x_along_x;
    y += affine.y_along_x;
  }
}

void rotate_image(std::uint8_t* destination, const Source& source, std::int32_t height, std::int32_t width,
                  const Affine& affine) noexcept {
  const std::ptrdiff_t row_size = std::ptrdiff_t{3} * width;
  const std::uint8_t* const destination_limit = destination + row_size * height;
  const bool runs = has_runs(affine);
  const Events columns((std::int64_t{1} << kFixedBits) - affine.x_along_x);
  const Events rows(std::abs(affine.y_along_x));
  for (std::int32_t y = 0; y < height; ++y) {
    std::int64_t first = 0;
    std::int64_t last = width;
    const std::int64_t row_x = affine.x_origin + y * affine.x_along_y;
    const std::int64_t row_y = affine.y_origin + y * affine.y_along_y;
    narrow(row_x, affine.x_along_x, width, first, last);
    narrow(row_y, affine.y_along_x, height, first, last);
    if (first >= last) first = last = 0;

    std::uint8_t* const row = destination + row_size * y;
    std::memset(row, 0, static_cast<std::size_t>(3 * first));
    if (runs) {
      copy_runs(row, destination_limit, source, row_x, row_y, first, last, affine, columns, rows);
    } else {
      copy_pixels(row, source, row_x, row_y, first, last, affine);
    }
    std::memset(row + 3 * last, 0, static_cast<std::size_t>(row_size - 3 * last));
  }
}

}  // namespace
}  // namespace firewall

int firewall_rotate(uint8_t* destination, const firewall_images* source, const double* angles, int32_t angles_count) {
  using namespace firewall;
  const int status = check_call(destination, 1, source, angles, angles_count, {nullptr, 0}, 0);
  if (status != FIREWALL_OK || source->count == 0 || angles_count == 0) return status;
  for (std::int32_t i = 0; i < angles_count; ++i) {
    if (!std::isfinite(angles[i])) return FIREWALL_BAD_PARAMETER;
  }
  const std::size_t image = image_size(source->height, source->width);
  for (std::int32_t i = 0; i < angles_count; ++i) {
    const Affine affine = affine_of(angles[i], source->height, source->width);
    for (std::int32_t n = 0; n < source->count; ++n) {
      std::uint8_t* to = destination + image * (static_cast<std::size_t>(n) * static_cast<std::size_t>(angles_count) +
                                                static_cast<std::size_t>(i));
      const std::uint8_t* pixels = source->data + n * source->image_stride;
      const std::uint8_t* limit =
          pixels + (source->height - 1) * source->row_stride + std::ptrdiff_t{3} * source->width;
      rotate_image(to, {pixels, limit, source->row_stride}, source->height, source->width, affine);
    }
  }
  return FIREWALL_OK;
}
