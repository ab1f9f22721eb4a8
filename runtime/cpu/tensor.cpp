#include "firewall/tensor.h"

#include "contract.hpp"
#include "kernels/kernels.hpp"
#include "tensor.hpp"

int firewall_tensor(float* destination, const firewall_images* source, const double* mean, const double* std) {
  using namespace firewall;
  if (std == nullptr && source != nullptr && source->count > 0) return FIREWALL_NULL_POINTER;
  const int status = check_call(destination, sizeof(float), source, mean, 1, {nullptr, 0}, 0);
  if (status != FIREWALL_OK || source->count == 0) return status;
  if (!allowed_normalisation(mean, std)) return FIREWALL_BAD_PARAMETER;
  const Normalisation normalisation = normalisation_of(mean, std);
  const auto width = static_cast<std::size_t>(source->width);
  const std::size_t plane = static_cast<std::size_t>(source->height) * width;
  for (std::int32_t n = 0; n < source->count; ++n) {
    const std::uint8_t* pixels = source->data + (source->count > 1 ? n * source->image_stride : 0);
    for (std::int32_t y = 0; y < source->height; ++y) {
      kernels().planes(destination + static_cast<std::size_t>(y) * width, plane, pixels + y * source->row_stride, width,
                       normalisation.scale, normalisation.shift);
    }
    destination += 3 * plane;
  }
  return FIREWALL_OK;
}
