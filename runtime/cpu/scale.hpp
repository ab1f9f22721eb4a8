// What a factor means: shared by the scaling of cpu/ and cuda/. Internal.
#pragma once

#include <algorithm>
#include <cstdint>

#include "firewall/scale.h"

namespace firewall {

// Along one side: `scaled` pixels, of which `window` from `start` on are seen, at `margin` in the result.
struct Side {
  std::int32_t scaled, start, window, margin;
};

inline Side side_of(std::int32_t side, double factor) noexcept {
  const std::int32_t scaled = std::max(1, static_cast<std::int32_t>(side * factor));
  if (scaled >= side) return {scaled, (scaled - side) / 2, side, 0};
  return {scaled, 0, scaled, (side - scaled) / 2};
}

inline bool allowed_factor(double factor) noexcept {  // false for NaN
  return factor >= FIREWALL_MIN_FACTOR && factor <= FIREWALL_MAX_FACTOR;
}

}  // namespace firewall
