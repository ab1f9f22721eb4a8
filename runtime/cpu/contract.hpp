// What every operation asks of its caller before it writes a byte. Internal.
#pragma once

#include <cstddef>
#include <cstdint>

#include "firewall/images.h"
#include "firewall/status.h"

namespace firewall {

struct Buffer {
  const void* data;
  std::size_t size;
};

// Bytes of one image; 0 if a side is outside 1..FIREWALL_MAX_SIDE.
std::size_t image_size(std::int32_t height, std::int32_t width) noexcept;

// The first int32 at or behind a pointer; up to 3 bytes are passed over.
inline std::int32_t* align_int32(void* pointer) noexcept {
  constexpr std::uintptr_t kMask = alignof(std::int32_t) - 1;
  return reinterpret_cast<std::int32_t*>((reinterpret_cast<std::uintptr_t>(pointer) + kMask) & ~kMask);
}

bool overlap(Buffer a, Buffer b) noexcept;

// FIREWALL_OK if rows and images of the source, which has images and allowed sides, lie no closer than their own
// length. read: the bytes from its first to its last.
int check_strides(const firewall_images& source, int channels, std::size_t& read) noexcept;

// FIREWALL_OK if the images can be read, there are parameters (or none are asked for), the destination can hold
// images x parameters x values of `value_size` bytes, and nothing shares memory.
int check_call(void* destination, std::size_t value_size, const firewall_images* source, const void* parameters,
               std::int32_t parameters_count, Buffer scratch, std::size_t scratch_needed) noexcept;

}  // namespace firewall
