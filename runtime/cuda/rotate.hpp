// Rotation as a block program. The definition is firewall/rotate.h.
#pragma once

#include <cmath>
#include <vector>

#include "../cpu/rotate.hpp"
#include "block.hpp"
#include "checks.hpp"

namespace firewall::cuda::rotate {

// Pixels of a copy that a block of threads writes, counted through its rows.
constexpr int kSpan = 1024;
constexpr int kMemory = 3 * kSpan;  // bytes of shared memory

struct Task {
  int width, height, angles;
  int spans;                                // of a copy
  std::ptrdiff_t row_stride, image_stride;  // bytes of the source
  const std::uint8_t* source;
  const Affine* affines;  // of each angle
  std::uint8_t* destination;
};

// One span of one copy. index: span, then angle, then image.
template <typename Block>
FIREWALL_DEVICE void turn(Block& block, const Task& task, int index, unsigned char* shared) {
  const int copy = index / task.spans;
  const int image = copy / task.angles;
  const int first = (index - copy * task.spans) * kSpan;
  const int pixels = smaller(kSpan, task.width * task.height - first);
  const int top = first / task.width, left = first - top * task.width;
  const Affine affine = task.affines[copy - image * task.angles];
  const std::uint8_t* source = task.source + image * task.image_stride;
  const Divisor by_width(task.width);
  block.each(pixels, [=, &task](int i) {
    const int row = by_width.quotient(left + i);
    const int x = by_width.remainder(left + i, row), y = top + row;
    const std::int64_t from_x = (affine.x_origin + x * affine.x_along_x + y * affine.x_along_y) >> kFixedBits;
    const std::int64_t from_y = (affine.y_origin + x * affine.y_along_x + y * affine.y_along_y) >> kFixedBits;
    const bool inside = from_x >= 0 && from_x < task.width && from_y >= 0 && from_y < task.height;
    const std::uint8_t* pixel = source + (inside ? from_y * task.row_stride + 3 * from_x : 0);
    for (int c = 0; c < 3; ++c) shared[3 * i + c] = inside ? pixel[c] : std::uint8_t{0};
  });
  const std::ptrdiff_t size = std::ptrdiff_t{3} * task.width * task.height;
  copy_rows(block, shared, kMemory, task.destination + copy * size + 3 * first, 0, 1, 3 * pixels);
}

// --- on the host
// ------------------------------------------------------------------------------------------------------

// All but the pointers and the strides.
inline Task make_task(int height, int width, int angles) {
  Task task{};
  task.width = width;
  task.height = height;
  task.angles = angles;
  task.spans = (width * height + kSpan - 1) / kSpan;
  return task;
}

inline std::vector<Affine> make_affines(const double* angles, int count, int height, int width) {
  std::vector<Affine> affines;
  affines.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) affines.push_back(affine_of(angles[i], height, width));
  return affines;
}

// FIREWALL_OK if a plan can be made.
inline int check_rotate(const Shape& shape, const double* angles) noexcept {
  const int status = check_plan(shape, angles);
  if (status != FIREWALL_OK) return status;
  for (std::int32_t i = 0; i < shape.parameters; ++i) {
    if (!std::isfinite(angles[i])) return FIREWALL_BAD_PARAMETER;
  }
  const Task task = make_task(shape.height, shape.width, shape.parameters);
  return grid_of(task.spans, shape.parameters, shape.count) > 0 ? FIREWALL_OK : FIREWALL_BAD_SIZE;
}

}  // namespace firewall::cuda::rotate
