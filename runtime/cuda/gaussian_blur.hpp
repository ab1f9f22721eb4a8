// Gaussian blur as a block program, run twice: along the rows, then along the columns. The definition is
// firewall/gaussian_blur.h.
//
// A lane is one colour of a row or of a column; a block of threads takes a few lanes into shared memory and blurs them
// three times. Along the columns it works in place: a block reads all of its lanes before it writes them.
#pragma once

#include <algorithm>
#include <vector>

#include "../cpu/gaussian_blur.hpp"
#include "block.hpp"
#include "checks.hpp"
#include "firewall/gaussian_blur.h"

namespace firewall::cuda::gaussian_blur {

constexpr int kSegment = 16;            // pixels of a lane that a thread blurs with one running sum
constexpr int kMostMemory = 48 * 1024;  // bytes of shared memory that every GPU gives a block
constexpr int kMostRows = 8;            // of a block along the rows: enough work for all of its threads
constexpr int kMostColumns = 32;        // bytes that a block takes of every row along the columns: a sector of memory

// Lanes of one direction. Lane (o, i) of a group begins o * outer_step + i bytes behind the group.
struct Lanes {
  int length;        // pixels
  int inner, outer;  // lanes of a group: neighbouring bytes, and rows
  int groups;        // of a copy
  int memory;        // bytes of shared memory
};

struct Task {
  int width, height, radii;
  std::ptrdiff_t row_stride, image_stride;  // bytes of the source
  const std::uint8_t* source;
  const Box* boxes;  // of each radius
  std::uint8_t* destination;
  Lanes rows, columns;
};

// One box blur of a segment of a lane, of `length` pixels `step` bytes apart. Sums fit 32 bits as they do in cpu/.
FIREWALL_DEVICE inline void blur_segment(const std::uint8_t* from, std::uint8_t* to, int step, int length, int first,
                                         const Box& box) {
  const int last = length - 1, radius = box.radius;
  const int end = smaller(first + kSegment, length);
  std::uint32_t inner = 0;
  for (int x = first - radius; x <= first + radius; ++x) inner += from[between(0, x, last) * step];
  std::uint32_t before = from[between(0, first - radius - 1, last) * step];
  for (int x = first; x < end; ++x) {
    const std::uint32_t after = from[between(0, x + radius + 1, last) * step];
    const std::uint32_t total = inner * box.inner + (before + after) * box.outer + (1u << (kBoxBits - 1));
    to[x * step] = static_cast<std::uint8_t>(total >> kBoxBits);
    before = from[between(0, x - radius, last) * step];
    inner += after - before;
  }
}

// A group of `outer` x `inner` lanes, from `from` to `to`. Pixels of a lane lie `step` bytes apart in memory; in shared
// memory they lie outer x length x inner, so that neighbouring threads load neighbouring bytes.
struct Place {
  std::ptrdiff_t step, outer_step;
};

template <typename Block>
FIREWALL_DEVICE void blur_lanes(Block& block, const std::uint8_t* from, Place from_place, std::uint8_t* to,
                                Place to_place, int length, int inner, int outer, const Box& box,
                                unsigned char* shared) {
  const int bytes = length * inner * outer;
  std::uint8_t* first = shared;
  std::uint8_t* second = shared + bytes;
  const Divisor by_inner(inner), by_length(length);
  const auto offset = [=](int i, const Place& place) {
    const int pixel = by_inner.quotient(i), o = by_length.quotient(pixel);
    return by_length.remainder(pixel, o) * place.step + o * place.outer_step + by_inner.remainder(i, pixel);
  };
  block.each(bytes, [=](int i) { first[i] = from[offset(i, from_place)]; });
  const int lanes = inner * outer;
  const Divisor by_lanes(lanes);
  for (int pass = 0; pass < kBoxPasses; ++pass) {
    block.each(lanes * ((length + kSegment - 1) / kSegment), [=, &box](int i) {
      const int segment = by_lanes.quotient(i), lane = by_lanes.remainder(i, segment);
      const int o = by_inner.quotient(lane);
      const int at = o * length * inner + by_inner.remainder(lane, o);
      blur_segment(first + at, second + at, inner, length, segment * kSegment, box);
    });
    std::uint8_t* blurred = second;
    second = first;
    first = blurred;
  }
  block.each(bytes, [=](int i) { to[offset(i, to_place)] = first[i]; });
}

// index: group of lanes, then radius, then image.
template <typename Block>
FIREWALL_DEVICE void blur_rows(Block& block, const Task& task, int index, unsigned char* shared) {
  const int copy = index / task.rows.groups, group = index - copy * task.rows.groups;
  const int image = copy / task.radii;
  const int across = 3 / task.rows.inner;  // groups side by side: a long row is blurred colour by colour
  const int row = group / across * task.rows.outer, byte = group % across * task.rows.inner;
  const std::ptrdiff_t pitch = std::ptrdiff_t{3} * task.width;
  std::uint8_t* to = task.destination + (static_cast<std::ptrdiff_t>(copy) * task.height + row) * pitch + byte;
  blur_lanes(block, task.source + image * task.image_stride + row * task.row_stride + byte, {3, task.row_stride}, to,
             {3, pitch}, task.width, task.rows.inner, smaller(task.rows.outer, task.height - row),
             task.boxes[copy - image * task.radii], shared);
}

template <typename Block>
FIREWALL_DEVICE void blur_columns(Block& block, const Task& task, int index, unsigned char* shared) {
  const int copy = index / task.columns.groups, group = index - copy * task.columns.groups;
  const int byte = group * task.columns.inner;
  const std::ptrdiff_t pitch = std::ptrdiff_t{3} * task.width;
  std::uint8_t* at = task.destination + static_cast<std::ptrdiff_t>(copy) * task.height * pitch + byte;
  blur_lanes(block, at, {pitch, 0}, at, {pitch, 0}, task.height, smaller(task.columns.inner, 3 * task.width - byte), 1,
             task.boxes[copy % task.radii], shared);
}

// --- on the host
// ------------------------------------------------------------------------------------------------------

// All but the pointers and the strides.
inline Task make_task(int height, int width, int radii) {
  Task task{};
  task.width = width;
  task.height = height;
  task.radii = radii;
  // Two copies of every lane.
  const int row_lanes = kMostMemory / 2 / width, column_lanes = kMostMemory / 2 / height;
  Lanes& rows = task.rows;
  rows.length = width;
  rows.inner = row_lanes >= 3 ? 3 : 1;
  rows.outer = row_lanes >= 3 ? std::min(row_lanes / 3, std::min(kMostRows, height)) : 1;
  rows.groups = 3 / rows.inner * ((height + rows.outer - 1) / rows.outer);
  rows.memory = 2 * rows.inner * rows.outer * width;
  Lanes& columns = task.columns;
  columns.length = height;
  columns.inner = std::min(column_lanes, std::min(kMostColumns, 3 * width));
  columns.outer = 1;
  columns.groups = (3 * width + columns.inner - 1) / columns.inner;
  columns.memory = 2 * columns.inner * height;
  return task;
}

inline std::vector<Box> make_boxes(const float* radii, int count) {
  std::vector<Box> boxes;
  boxes.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) boxes.push_back(box_of(radii[i]));
  return boxes;
}

// FIREWALL_OK if a plan can be made.
inline int check_gaussian_blur(const Shape& shape, const float* radii) noexcept {
  const int status = check_plan(shape, radii);
  if (status != FIREWALL_OK) return status;
  for (std::int32_t i = 0; i < shape.parameters; ++i) {
    if (!(radii[i] >= 0.0F && radii[i] <= FIREWALL_MAX_RADIUS)) return FIREWALL_BAD_PARAMETER;  // NaN too
  }
  const Task task = make_task(shape.height, shape.width, shape.parameters);
  const int groups = std::max(task.rows.groups, task.columns.groups);
  return grid_of(groups, shape.parameters, shape.count) > 0 ? FIREWALL_OK : FIREWALL_BAD_SIZE;
}

}  // namespace firewall::cuda::gaussian_blur
