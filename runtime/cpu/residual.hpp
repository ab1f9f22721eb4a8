// What a share means: shared by the residuals of cpu/ and cuda/. Internal.
#pragma once

#include <algorithm>
#include <cstdint>

namespace firewall {

inline bool allowed_share(double share) noexcept { return share > 0.0 && share < 1.0; }  // false for NaN

inline std::int32_t kept_pixels(std::int32_t side, double share) noexcept {
  return std::max(1, static_cast<std::int32_t>(side * share));
}

}  // namespace firewall
