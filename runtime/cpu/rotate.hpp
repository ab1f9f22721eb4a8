// What an angle means: shared by the rotations of cpu/ and cuda/. Internal.
#pragma once

#include <cstdint>

namespace firewall {

inline constexpr int kFixedBits = 16;

// Where a pixel of the result comes from, in units of 2^-16 pixels: (x, y) -> origin + x * along_x + y * along_y.
struct Affine {
  std::int64_t x_along_x, x_along_y, x_origin;
  std::int64_t y_along_x, y_along_y, y_origin;
};

// degrees: finite.
Affine affine_of(double degrees, std::int32_t height, std::int32_t width) noexcept;

}  // namespace firewall
