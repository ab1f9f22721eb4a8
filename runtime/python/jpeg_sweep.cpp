// The JPEG sweep. Shapes and types are refused by the signatures, the rest by the C interface.
#include "jpeg_sweep.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <initializer_list>
#include <optional>

#include "calls.hpp"
#include "firewall/jpeg_sweep.h"

namespace nb = nanobind;

namespace {

// numpy.float16, of which nothing but its size is needed here.
struct Half {
  std::uint16_t bits;
};

}  // namespace

namespace nanobind::detail {

template <>
struct dtype_traits<Half> {
  static constexpr dlpack::dtype value{static_cast<std::uint8_t>(dlpack::dtype_code::Float), 16, 1};
  static constexpr auto name = const_name("float16");
};

}  // namespace nanobind::detail

namespace {

using Pixels = nb::ndarray<const std::uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;
using GreyPixels = nb::ndarray<const std::uint8_t, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Qualities = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Copies = nb::ndarray<std::uint8_t, nb::shape<-1, -1, -1, 3>, nb::c_contig, nb::device::cpu>;
using GreyCopies = nb::ndarray<std::uint8_t, nb::shape<-1, -1, -1>, nb::c_contig, nb::device::cpu>;
using Channels = nb::ndarray<const double, nb::shape<3>, nb::c_contig, nb::device::cpu>;
template <typename Value>
using Batch = nb::ndarray<Value, nb::shape<-1, 3, -1, -1>, nb::c_contig, nb::device::cpu>;

using Resampling = std::optional<int>;

firewall_jpeg_options options_of(int sampling, int format, int threads) {
  return {sampling, format, threads, FIREWALL_JPEG_BEST, {}, {}, 0, 0, 0};
}

// rows, columns: which sides of `out` are the height and the width.
template <typename Out, typename Source>
void sweep(const Out& out, int rows, int columns, const Source& pixels, int channels, const Qualities& qualities,
           Resampling resampling, firewall_jpeg_options options) {
  for (const std::size_t side : {pixels.shape(0), pixels.shape(1), out.shape(rows), out.shape(columns)}) {
    if (side > FIREWALL_MAX_SIDE) throw nb::value_error(firewall_status_text(FIREWALL_BAD_SIZE));
  }
  if (qualities.shape(0) > 0x7fffffff) throw nb::value_error(firewall_status_text(FIREWALL_BAD_SIZE));
  const bool same = out.shape(rows) == pixels.shape(0) && out.shape(columns) == pixels.shape(1);
  if (out.shape(0) != qualities.shape(0) || (!same && !resampling)) {
    throw nb::value_error("out must hold one copy for each quality, of the size of the image unless it is resized");
  }
  if (resampling) {
    options.result_height = static_cast<std::int32_t>(out.shape(rows));
    options.result_width = static_cast<std::int32_t>(out.shape(columns));
    options.filter = *resampling;
  }
  const auto height = static_cast<std::int32_t>(pixels.shape(0));
  const auto width = static_cast<std::int32_t>(pixels.shape(1));
  const auto count = static_cast<std::int32_t>(qualities.shape(0));
  const firewall_images images = {pixels.data(), 0, static_cast<std::ptrdiff_t>(channels) * width, 1, height, width};
  const Scratch& scratch = scratch_of(firewall_jpeg_sweep_scratch(height, width, &options));
  run([&] {
    return firewall_jpeg_sweep(out.data(), out.nbytes(), &images, qualities.data(), count, &options, scratch.data.get(),
                               scratch.size);
  });
}

void jpeg_sweep(const Pixels& pixels, const Qualities& qualities, int sampling, const Copies& out, int threads,
                Resampling resampling) {
  if (sampling == FIREWALL_JPEG_GREY) throw nb::value_error("subsampling must be 0, 1 or 2");
  sweep(out, 1, 2, pixels, 3, qualities, resampling, options_of(sampling, FIREWALL_JPEG_UINT8, threads));
}

void jpeg_sweep_grey(const GreyPixels& pixels, const Qualities& qualities, const GreyCopies& out, int threads,
                     Resampling resampling) {
  sweep(out, 1, 2, pixels, 1, qualities, resampling, options_of(FIREWALL_JPEG_GREY, FIREWALL_JPEG_UINT8, threads));
}

template <typename Value, int format>
void jpeg_sweep_normalised(const Pixels& pixels, const Qualities& qualities, int sampling, const Channels& mean,
                           const Channels& std, const Batch<Value>& out, int threads, Resampling resampling) {
  if (sampling == FIREWALL_JPEG_GREY) throw nb::value_error("subsampling must be 0, 1 or 2");
  firewall_jpeg_options options = options_of(sampling, format, threads);
  for (int c = 0; c < 3; ++c) {
    options.mean[c] = mean.data()[c];
    options.std[c] = std.data()[c];
  }
  sweep(out, 2, 3, pixels, 3, qualities, resampling, options);
}

}  // namespace

void init_jpeg_sweep(nb::module_& module) {
  using namespace nb::literals;
  module.def("jpeg_sweep", &jpeg_sweep, "pixels"_a.noconvert(), "qualities"_a.noconvert(), "subsampling"_a,
             "out"_a.noconvert(), "threads"_a = 1, "resampling"_a = nb::none(),
             "JPEG at each quality; see firewall/jpeg_sweep.h.");
  module.def("jpeg_sweep_grey", &jpeg_sweep_grey, "pixels"_a.noconvert(), "qualities"_a.noconvert(),
             "out"_a.noconvert(), "threads"_a = 1, "resampling"_a = nb::none(), "The same of a grey image.");
  module.def("jpeg_sweep_float32", &jpeg_sweep_normalised<float, FIREWALL_JPEG_FLOAT32>, "pixels"_a.noconvert(),
             "qualities"_a.noconvert(), "subsampling"_a, "mean"_a.noconvert(), "std"_a.noconvert(), "out"_a.noconvert(),
             "threads"_a = 1, "resampling"_a = nb::none(), "JPEG at each quality, normalised for a network.");
  module.def("jpeg_sweep_float16", &jpeg_sweep_normalised<Half, FIREWALL_JPEG_FLOAT16>, "pixels"_a.noconvert(),
             "qualities"_a.noconvert(), "subsampling"_a, "mean"_a.noconvert(), "std"_a.noconvert(), "out"_a.noconvert(),
             "threads"_a = 1, "resampling"_a = nb::none(), "The same in half precision.");
}
