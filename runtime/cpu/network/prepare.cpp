#include "prepare.hpp"

#include <algorithm>
#include <cmath>

namespace firewall {
namespace {

// Each number becomes the mean of the window around it, of what lies within the image. columns: side^2 floats.
void window_means(float* plane, std::size_t side, std::size_t window, float* columns) noexcept {
  const std::size_t reach = window / 2;
  for (std::size_t y = 0; y < side; ++y) {
    const std::size_t first = y - std::min(y, reach), last = std::min(side - 1, y + reach);
    float* sums = columns + y * side;
    std::copy(plane + first * side, plane + (first + 1) * side, sums);
    for (std::size_t from = first + 1; from <= last; ++from) {
      for (std::size_t x = 0; x < side; ++x) sums[x] += plane[from * side + x];
    }
  }
  for (std::size_t y = 0; y < side; ++y) {
    const float* sums = columns + y * side;
    float* row = plane + y * side;
    const std::size_t high = std::min(side - 1, y + reach) - (y - std::min(y, reach)) + 1;
    std::copy(sums, sums + side, row);
    for (std::size_t by = 1; by <= reach && by < side; ++by) {
      for (std::size_t x = by; x < side; ++x) row[x] += sums[x - by];
      for (std::size_t x = 0; x + by < side; ++x) row[x] += sums[x + by];
    }
    for (std::size_t x = 0; x < side; ++x) {
      const std::size_t wide = std::min(side - 1, x + reach) - (x - std::min(x, reach)) + 1;
      row[x] /= static_cast<float>(high * wide);
    }
  }
}

}  // namespace

void prepare_shifted(float* destination, const float* planes, std::size_t pixels, float shift, float scale) noexcept {
  for (std::size_t i = 0; i < pixels; ++i) {
    for (std::size_t c = 0; c < 3; ++c) destination[3 * i + c] = (planes[c * pixels + i] - shift) * scale;
  }
}

void prepare_local_contrast(float* destination, const float* planes, std::size_t side, std::size_t window,
                            float epsilon, float* memory) noexcept {
  const std::size_t pixels = side * side;
  float* apart = memory;  // three planes, then one of squares, and one for sums
  float* squares = memory + 3 * pixels;
  float* columns = squares + pixels;
  std::copy(planes, planes + 3 * pixels, apart);
  std::fill(squares, squares + pixels, 0.0F);
  for (std::size_t c = 0; c < 3; ++c) {
    float* plane = apart + c * pixels;
    window_means(plane, side, window, columns);
    for (std::size_t i = 0; i < pixels; ++i) {
      plane[i] = planes[c * pixels + i] - plane[i];
      squares[i] += plane[i] * plane[i];
    }
  }
  for (std::size_t i = 0; i < pixels; ++i) squares[i] /= 3.0F;
  window_means(squares, side, window, columns);
  for (std::size_t i = 0; i < pixels; ++i) {
    const float deviation = std::sqrt(squares[i] + epsilon);
    for (std::size_t c = 0; c < 3; ++c) destination[3 * i + c] = apart[c * pixels + i] / deviation;
  }
}

}  // namespace firewall
