// The operations other than JPEG. Shapes and types are refused by the signatures, the rest by the C interface.
#include "operations.hpp"

#include <nanobind/ndarray.h>

#include <algorithm>

#include "calls.hpp"
#include "firewall/crops.h"
#include "firewall/gaussian_blur.h"
#include "firewall/residual.h"
#include "firewall/rotate.h"
#include "firewall/scale.h"
#include "firewall/tensor.h"

namespace nb = nanobind;

namespace {

// (N, H, W, 3): rows and images may lie apart, the bytes of a row may not.
using Images = nb::ndarray<const std::uint8_t, nb::shape<-1, -1, -1, 3>, nb::device::cpu>;
// (N, P, H, W, 3), P copies of each image.
template <typename Value>
using Copies = nb::ndarray<Value, nb::shape<-1, -1, -1, -1, 3>, nb::c_contig, nb::device::cpu>;
template <typename Value>
using Parameters = nb::ndarray<const Value, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

firewall_images images_of(const Images& pixels) {
  if (pixels.size() > 0 && (pixels.stride(3) != 1 || (pixels.shape(2) > 1 && pixels.stride(2) != 3))) {
    throw nb::value_error("the pixels of a row must follow each other, three bytes each");
  }
  for (std::size_t i = 0; i < 3; ++i) {
    if (pixels.shape(i) > 0x7fffffff) throw nb::value_error("the array of pixels is too large");
  }
  const auto height = static_cast<std::int32_t>(pixels.shape(1));
  const auto width = static_cast<std::int32_t>(pixels.shape(2));
  // A stride along a side of one means nothing, and numpy gives it any value.
  const std::ptrdiff_t row = height > 1 ? pixels.stride(1) : std::ptrdiff_t{3} * width;
  return {pixels.data(), pixels.shape(0) > 1 ? pixels.stride(0) : row * height,
          row,           static_cast<std::int32_t>(pixels.shape(0)),
          height,        width};
}

template <typename Value, typename Parameter>
std::int32_t count_of(const Copies<Value>& out, const Images& pixels, const Parameters<Parameter>& parameters) {
  if (out.shape(0) != pixels.shape(0) || out.shape(1) != parameters.shape(0) || out.shape(2) != pixels.shape(1) ||
      out.shape(3) != pixels.shape(2)) {
    throw nb::value_error("out must be of shape (images, parameters, height, width, 3)");
  }
  return static_cast<std::int32_t>(parameters.shape(0));
}

void gaussian_blur(const Images& pixels, const Parameters<float>& radii, const Copies<std::uint8_t>& out) {
  const firewall_images images = images_of(pixels);
  const std::int32_t count = count_of(out, pixels, radii);
  Scratch& scratch = scratch_of(firewall_gaussian_blur_scratch(images.height, images.width));
  run([&] {
    return firewall_gaussian_blur(out.data(), &images, radii.data(), count, scratch.data.get(), scratch.size);
  });
}

void rotate(const Images& pixels, const Parameters<double>& angles, const Copies<std::uint8_t>& out) {
  const firewall_images images = images_of(pixels);
  const std::int32_t count = count_of(out, pixels, angles);
  run([&] { return firewall_rotate(out.data(), &images, angles.data(), count); });
}

void scale(const Images& pixels, const Parameters<double>& factors, int filter, const Copies<std::uint8_t>& out) {
  const firewall_images images = images_of(pixels);
  const std::int32_t count = count_of(out, pixels, factors);
  Scratch& scratch = scratch_of(firewall_scale_scratch(images.height, images.width));
  run([&] {
    return firewall_scale(out.data(), &images, factors.data(), count, filter, scratch.data.get(), scratch.size);
  });
}

template <typename Value, auto Function>
void residual(const Images& pixels, const Parameters<double>& shares, int down, int up, const Copies<Value>& out) {
  const firewall_images images = images_of(pixels);
  const std::int32_t count = count_of(out, pixels, shares);
  Scratch& scratch = scratch_of(firewall_residual_scratch(images.height, images.width));
  run([&] { return Function(out.data(), &images, shares.data(), count, down, up, scratch.data.get(), scratch.size); });
}

using Tensor = nb::ndarray<float, nb::shape<-1, 3, -1, -1>, nb::c_contig, nb::device::cpu>;
using Channels = nb::ndarray<const double, nb::shape<3>, nb::c_contig, nb::device::cpu>;

void tensor(const Images& pixels, const Channels& mean, const Channels& std, const Tensor& out) {
  const firewall_images images = images_of(pixels);
  if (out.shape(0) != pixels.shape(0) || out.shape(2) != pixels.shape(1) || out.shape(3) != pixels.shape(2)) {
    throw nb::value_error("out must be of shape (images, 3, height, width)");
  }
  run([&] { return firewall_tensor(out.data(), &images, mean.data(), std.data()); });
}

using Regions = nb::ndarray<const std::int32_t, nb::shape<-1, 4>, nb::c_contig, nb::device::cpu>;
using Crops = nb::ndarray<std::uint8_t, nb::shape<-1, -1, -1, 3>, nb::c_contig, nb::device::cpu>;

void crops(const Images& frame, const Regions& regions, const Crops& out) {
  const firewall_images images = images_of(frame);
  if (out.shape(0) != regions.shape(0) || out.shape(0) > 0x7fffffff) {
    throw nb::value_error("out must be of shape (regions, height, width, 3)");
  }
  for (std::size_t i = 1; i < 3; ++i) {
    if (out.shape(i) > FIREWALL_MAX_SIDE) throw nb::value_error(firewall_status_text(FIREWALL_BAD_SIZE));
  }
  static_assert(sizeof(firewall_region) == 4 * sizeof(std::int32_t));
  const auto* wanted = reinterpret_cast<const firewall_region*>(regions.data());
  const auto count = static_cast<std::int32_t>(regions.shape(0));
  const auto height = static_cast<std::int32_t>(out.shape(1)), width = static_cast<std::int32_t>(out.shape(2));
  std::int32_t rows = 1, columns = 1;
  for (std::int32_t i = 0; i < count; ++i) {
    rows = std::max(rows, std::min(wanted[i].height, images.height));
    columns = std::max(columns, std::min(wanted[i].width, images.width));
  }
  Scratch& scratch = scratch_of(firewall_crops_scratch(rows, columns, height, width));
  run([&] {
    return firewall_crops(out.data(), &images, wanted, count, height, width, scratch.data.get(), scratch.size);
  });
}

}  // namespace

void init_operations(nb::module_& module) {
  using namespace nb::literals;
  module.def("gaussian_blur", &gaussian_blur, "pixels"_a.noconvert(), "radii"_a.noconvert(), "out"_a.noconvert(),
             "Gaussian blur at each radius; see firewall/gaussian_blur.h.");
  module.def("rotate", &rotate, "pixels"_a.noconvert(), "angles"_a.noconvert(), "out"_a.noconvert(),
             "Rotation by each angle; see firewall/rotate.h.");
  module.def("scale", &scale, "pixels"_a.noconvert(), "factors"_a.noconvert(), "resampling"_a, "out"_a.noconvert(),
             "Scaling by each factor; see firewall/scale.h.");
  module.def("residual", &residual<std::int16_t, firewall_residual>, "pixels"_a.noconvert(), "shares"_a.noconvert(),
             "down"_a, "up"_a, "out"_a.noconvert(), "Residual images in int16; see firewall/residual.h.");
  module.def("residual_coded", &residual<std::uint8_t, firewall_residual_coded>, "pixels"_a.noconvert(),
             "shares"_a.noconvert(), "down"_a, "up"_a, "out"_a.noconvert(),
             "Residual images in bytes; see firewall/residual.h.");
  module.def("crops", &crops, "frame"_a.noconvert(), "regions"_a.noconvert(), "out"_a.noconvert(),
             "Regions of a frame at another size; see firewall/crops.h.");
  module.def("tensor", &tensor, "pixels"_a.noconvert(), "mean"_a.noconvert(), "std"_a.noconvert(), "out"_a.noconvert(),
             "Pixels as a network reads them; see firewall/tensor.h.");
}
