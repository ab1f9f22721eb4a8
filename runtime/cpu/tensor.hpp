// What the tensors of the processor and of a GPU have in common. Internal.
#pragma once

#include <cmath>

namespace firewall {

// value * scale + shift for each colour.
struct Normalisation {
  float scale[3], shift[3];
};

inline bool allowed_normalisation(const double* mean, const double* deviation) noexcept {
  for (int c = 0; c < 3; ++c) {
    if (!std::isfinite(mean[c]) || !std::isfinite(deviation[c]) || !(deviation[c] > 0.0)) return false;
  }
  return true;
}

inline Normalisation normalisation_of(const double* mean, const double* deviation) noexcept {
  Normalisation result{};
  for (int c = 0; c < 3; ++c) {
    result.scale[c] = static_cast<float>(1.0 / (255.0 * deviation[c]));
    result.shift[c] = static_cast<float>(-mean[c] / deviation[c]);
  }
  return result;
}

}  // namespace firewall
