// What a radius means: shared by the blurs of cpu/ and cuda/. Internal.
#pragma once

#include "kernels/kernels.hpp"

namespace firewall {

inline constexpr int kBoxPasses = 3;  // along either side

// The box whose repetition has the variance radius^2. Its whole part is the widest odd box that is not too wide; the
// fraction belongs to the two pixels beyond it. Single precision, as in the definition: the weights depend on it.
Box box_of(float radius) noexcept;

}  // namespace firewall
