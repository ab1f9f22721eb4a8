#include "contract.hpp"

#include <limits>

namespace firewall {
namespace {

// a * b, or false where it can't be addressed.
bool multiply(std::size_t& a, std::size_t b) noexcept {
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
  if (b != 0 && a > kMost / b) return false;
  a *= b;
  return true;
}

}  // namespace

bool overlap(Buffer a, Buffer b) noexcept {
  const auto first = reinterpret_cast<std::uintptr_t>(a.data);
  const auto second = reinterpret_cast<std::uintptr_t>(b.data);
  if (a.size == 0 || b.size == 0) return false;
  return first < second ? second - first < a.size : first - second < b.size;
}

int check_strides(const firewall_images& source, int channels, std::size_t& read) noexcept {
  const auto row = static_cast<std::ptrdiff_t>(channels) * source.width;
  if (source.row_stride < row) return FIREWALL_BAD_STRIDE;
  auto image = static_cast<std::size_t>(source.row_stride);
  if (!multiply(image, static_cast<std::size_t>(source.height))) return FIREWALL_BAD_STRIDE;
  read = image - static_cast<std::size_t>(source.row_stride - row);  // what follows the last row is not the image's
  if (source.count > 1) {
    if (source.image_stride < 0 || static_cast<std::size_t>(source.image_stride) < image) return FIREWALL_BAD_STRIDE;
    auto before_last = static_cast<std::size_t>(source.image_stride);
    if (!multiply(before_last, static_cast<std::size_t>(source.count) - 1)) return FIREWALL_BAD_STRIDE;
    read += before_last;
  }
  return FIREWALL_OK;
}

std::size_t image_size(std::int32_t height, std::int32_t width) noexcept {
  if (height < 1 || width < 1 || height > FIREWALL_MAX_SIDE || width > FIREWALL_MAX_SIDE) return 0;
  return std::size_t{3} * static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
}

int check_call(void* destination, std::size_t value_size, const firewall_images* source, const void* parameters,
               std::int32_t parameters_count, Buffer scratch, std::size_t scratch_needed) noexcept {
  if (source == nullptr) return FIREWALL_NULL_POINTER;
  const std::size_t pixels = image_size(source->height, source->width);
  if (pixels == 0 || source->count < 0 || parameters_count < 0) return FIREWALL_BAD_SIZE;
  std::size_t written = pixels;
  if (!multiply(written, value_size) || !multiply(written, static_cast<std::size_t>(source->count)) ||
      !multiply(written, static_cast<std::size_t>(parameters_count))) {
    return FIREWALL_BAD_SIZE;
  }
  if (written == 0) return FIREWALL_OK;
  if (destination == nullptr || source->data == nullptr || parameters == nullptr) return FIREWALL_NULL_POINTER;

  std::size_t read;
  const int strides = check_strides(*source, 3, read);
  if (strides != FIREWALL_OK) return strides;
  if (scratch_needed > 0) {
    if (scratch.data == nullptr) return FIREWALL_NULL_POINTER;
    if (scratch.size < scratch_needed) return FIREWALL_SCRATCH_TOO_SMALL;
  }
  const Buffer out{destination, written};
  const Buffer in{source->data, read};
  if (overlap(out, in) || overlap(out, scratch) || overlap(in, scratch)) return FIREWALL_OVERLAP;
  return FIREWALL_OK;
}

}  // namespace firewall
