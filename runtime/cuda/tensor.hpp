// Tensors as a block program. The definition is firewall/tensor.h.
#pragma once

#include "../cpu/tensor.hpp"
#include "block.hpp"
#include "checks.hpp"

namespace firewall::cuda::tensor {

// Pixels of an image that a block of threads reads, counted through its rows.
constexpr int kSpan = 1024;

struct Task {
  int width, height;
  int spans;                                // of an image
  std::ptrdiff_t row_stride, image_stride;  // bytes of the source
  const std::uint8_t* source;
  Normalisation normalisation;
  float* destination;
};

// One span of one image. index: span, then image. Neighbouring threads write neighbouring numbers of a plane.
template <typename Block>
FIREWALL_DEVICE void spread(Block& block, const Task& task, int index) {
  const int image = index / task.spans;
  const int first = (index - image * task.spans) * kSpan;
  const int plane = task.width * task.height;
  const int pixels = smaller(kSpan, plane - first);
  const int top = first / task.width, left = first - top * task.width;
  const std::uint8_t* source = task.source + image * task.image_stride;
  float* to = task.destination + std::ptrdiff_t{3} * plane * image + first;
  const Divisor by_width(task.width);
  block.each(pixels, [=, &task](int i) {
    const int row = by_width.quotient(left + i);
    const std::uint8_t* pixel = source + (top + row) * task.row_stride + 3 * by_width.remainder(left + i, row);
    for (int c = 0; c < 3; ++c) {
      to[std::ptrdiff_t{c} * plane + i] =
          Block::scaled(static_cast<float>(pixel[c]), task.normalisation.scale[c], task.normalisation.shift[c]);
    }
  });
}

// --- on the host
// ------------------------------------------------------------------------------------------------------

// All but the pointers and the strides.
inline Task make_task(int height, int width, const double* mean, const double* deviation) {
  Task task{};
  task.width = width;
  task.height = height;
  task.spans = (width * height + kSpan - 1) / kSpan;
  task.normalisation = normalisation_of(mean, deviation);
  return task;
}

// FIREWALL_OK if a plan can be made.
inline int check_tensor(const Shape& shape, const double* mean, const double* deviation) noexcept {
  const int status = check_plan(shape, mean);
  if (status != FIREWALL_OK) return status;
  if (deviation == nullptr) return FIREWALL_NULL_POINTER;
  if (!allowed_normalisation(mean, deviation)) return FIREWALL_BAD_PARAMETER;
  const Task task = make_task(shape.height, shape.width, mean, deviation);
  return grid_of(task.spans, 1, shape.count) > 0 ? FIREWALL_OK : FIREWALL_BAD_SIZE;
}

}  // namespace firewall::cuda::tensor
