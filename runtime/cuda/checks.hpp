// What a plan and a run ask of their caller, apart from what belongs to one operation. On the host, without CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "firewall/images.h"
#include "firewall/status.h"

namespace firewall::cuda {

// What a plan takes and gives.
struct Shape {
  std::int32_t count, height, width, channels;
  std::int32_t parameters;  // copies of each image
  std::int32_t value_size;  // bytes of a number of the result
};

// a * b, or false where it can't be addressed.
inline bool multiply(std::size_t& a, std::size_t b) noexcept {
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
  if (b != 0 && a > kMost / b) return false;
  a *= b;
  return true;
}

// Bytes of the results of `count` images, or 0.
inline std::size_t result_bytes(const Shape& shape, std::int32_t count) noexcept {
  if (count < 0 || count > shape.count) return 0;
  auto bytes = static_cast<std::size_t>(shape.value_size);
  for (const std::int32_t factor : {shape.height, shape.width, shape.channels, shape.parameters, count}) {
    if (!multiply(bytes, static_cast<std::size_t>(factor))) return 0;
  }
  return bytes;
}

// FIREWALL_OK if a plan of this shape can be made.
inline int check_plan(const Shape& shape, const void* parameters) noexcept {
  if (shape.count < 1 || shape.parameters < 1 || shape.height < 1 || shape.width < 1 ||
      shape.height > FIREWALL_MAX_SIDE || shape.width > FIREWALL_MAX_SIDE || result_bytes(shape, shape.count) == 0) {
    return FIREWALL_BAD_SIZE;
  }
  return parameters == nullptr ? FIREWALL_NULL_POINTER : FIREWALL_OK;
}

// Blocks of threads of a grid, from those of one image at one parameter; 0 if there are too many to number.
inline int grid_of(std::int64_t blocks, std::int32_t parameters, std::int32_t count) noexcept {
  auto all = static_cast<std::size_t>(blocks);
  if (!multiply(all, static_cast<std::size_t>(parameters)) || !multiply(all, static_cast<std::size_t>(count))) return 0;
  return all <= static_cast<std::size_t>(std::numeric_limits<int>::max()) ? static_cast<int>(all) : 0;
}

// FIREWALL_OK if a run can be queued, or if there is nothing to do (source->count is 0).
inline int check_run(const Shape& shape, const void* destination, std::size_t destination_size,
                     const firewall_images* source) noexcept {
  if (source == nullptr) return FIREWALL_NULL_POINTER;
  if (source->height != shape.height || source->width != shape.width || source->count < 0 ||
      source->count > shape.count) {
    return FIREWALL_BAD_SIZE;
  }
  if (source->count == 0) return FIREWALL_OK;
  if (destination == nullptr || source->data == nullptr) return FIREWALL_NULL_POINTER;
  const std::size_t written = result_bytes(shape, source->count);
  if (destination_size < written) return FIREWALL_BAD_SIZE;
  const auto to = reinterpret_cast<std::uintptr_t>(destination), from = reinterpret_cast<std::uintptr_t>(source->data);
  if (to % static_cast<std::size_t>(shape.value_size) != 0) return FIREWALL_BAD_PARAMETER;

  const auto row = static_cast<std::ptrdiff_t>(shape.channels) * shape.width;
  if (source->row_stride < row) return FIREWALL_BAD_STRIDE;
  auto image = static_cast<std::size_t>(source->row_stride);
  if (!multiply(image, static_cast<std::size_t>(shape.height))) return FIREWALL_BAD_STRIDE;
  std::size_t before_last = 0;
  if (source->count > 1) {
    if (source->image_stride < 0 || static_cast<std::size_t>(source->image_stride) < image) return FIREWALL_BAD_STRIDE;
    before_last = static_cast<std::size_t>(source->image_stride);
    if (!multiply(before_last, static_cast<std::size_t>(source->count) - 1)) return FIREWALL_BAD_STRIDE;
  }
  // What follows the last row is not the image's.
  const std::size_t read = before_last + image - static_cast<std::size_t>(source->row_stride - row);
  return to < from + read && from < to + written ? FIREWALL_OVERLAP : FIREWALL_OK;
}

}  // namespace firewall::cuda
