// The input's numbers as the first layer reads them. Internal.
#pragma once

#include <cstddef>

namespace firewall {

// Floats of scratch that `prepare_local_contrast` needs.
constexpr std::size_t contrast_memory(std::size_t side) noexcept { return 6 * side * side; }

// (x - shift) * scale; planes 3 x pixels in, pixels x 3 out.
void prepare_shifted(float* destination, const float* planes, std::size_t pixels, float shift, float scale) noexcept;

// See FIREWALL_PREPARE_LOCAL_CONTRAST.
void prepare_local_contrast(float* destination, const float* planes, std::size_t side, std::size_t window,
                            float epsilon, float* memory) noexcept;

}  // namespace firewall
