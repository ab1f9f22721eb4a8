// The JPEG sweep. Shapes and types are refused by the signatures, the rest by the C interface; scratch is a buffer of
// the calling thread that grows and stays, so that a frame loop allocates nothing.
#include "jpeg_sweep.hpp"

#include <nanobind/ndarray.h>

#include <memory>

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

struct Scratch {
  std::unique_ptr<std::uint8_t[]> data;
  std::size_t size = 0;
};

Scratch& scratch_of(std::size_t size) {
  thread_local Scratch scratch;
  if (scratch.size < size) {
    scratch.size = 0;
    scratch.data.reset(new std::uint8_t[size]);
    scratch.size = size;
  }
  return scratch;
}

firewall_jpeg_options options_of(int sampling, int format, int threads) {
  return {sampling, format, threads, FIREWALL_JPEG_BEST, {}, {}, 0, 0, 0};
}

// rows, columns: which sides of `out` are the height and the width.
template <typename Out, typename Source>
void sweep(const Out& out, int rows, int columns, const Source& pixels, int channels, const Qualities& qualities,
           const firewall_jpeg_options& options) {
  if (out.shape(0) != qualities.shape(0) || out.shape(rows) != pixels.shape(0) ||
      out.shape(columns) != pixels.shape(1)) {
    throw nb::value_error("out must hold one copy of the size of the image for each quality");
  }
  if (pixels.shape(0) > FIREWALL_MAX_SIDE || pixels.shape(1) > FIREWALL_MAX_SIDE || qualities.shape(0) > 0x7fffffff) {
    throw nb::value_error(firewall_status_text(FIREWALL_BAD_SIZE));
  }
  const auto height = static_cast<std::int32_t>(pixels.shape(0));
  const auto width = static_cast<std::int32_t>(pixels.shape(1));
  const firewall_images images = {pixels.data(), 0, static_cast<std::ptrdiff_t>(channels) * width, 1, height, width};
  Scratch& scratch = scratch_of(firewall_jpeg_sweep_scratch(height, width, &options));
  int status;
  {
    nb::gil_scoped_release release;
    status = firewall_jpeg_sweep(out.data(), out.nbytes(), &images, qualities.data(),
                                 static_cast<std::int32_t>(qualities.shape(0)), &options, scratch.data.get(),
                                 scratch.size);
  }
  if (status != FIREWALL_OK) throw nb::value_error(firewall_status_text(status));
}

void jpeg_sweep(const Pixels& pixels, const Qualities& qualities, int sampling, const Copies& out, int threads) {
  if (sampling == FIREWALL_JPEG_GREY) throw nb::value_error("subsampling must be 0, 1 or 2");
  sweep(out, 1, 2, pixels, 3, qualities, options_of(sampling, FIREWALL_JPEG_UINT8, threads));
}

void jpeg_sweep_grey(const GreyPixels& pixels, const Qualities& qualities, const GreyCopies& out, int threads) {
  sweep(out, 1, 2, pixels, 1, qualities, options_of(FIREWALL_JPEG_GREY, FIREWALL_JPEG_UINT8, threads));
}

template <typename Value, int format>
void jpeg_sweep_normalised(const Pixels& pixels, const Qualities& qualities, int sampling, const Channels& mean,
                           const Channels& std, const Batch<Value>& out, int threads) {
  if (sampling == FIREWALL_JPEG_GREY) throw nb::value_error("subsampling must be 0, 1 or 2");
  firewall_jpeg_options options = options_of(sampling, format, threads);
  for (int c = 0; c < 3; ++c) {
    options.mean[c] = mean.data()[c];
    options.std[c] = std.data()[c];
  }
  sweep(out, 2, 3, pixels, 3, qualities, options);
}

}  // namespace

void init_jpeg_sweep(nb::module_& module) {
  using namespace nb::literals;
  module.def("jpeg_sweep", &jpeg_sweep, "pixels"_a.noconvert(), "qualities"_a.noconvert(), "subsampling"_a,
             "out"_a.noconvert(), "threads"_a = 1, "JPEG at each quality; see firewall/jpeg_sweep.h.");
  module.def("jpeg_sweep_grey", &jpeg_sweep_grey, "pixels"_a.noconvert(), "qualities"_a.noconvert(),
             "out"_a.noconvert(), "threads"_a = 1, "The same of a grey image.");
  module.def("jpeg_sweep_float32", &jpeg_sweep_normalised<float, FIREWALL_JPEG_FLOAT32>, "pixels"_a.noconvert(),
             "qualities"_a.noconvert(), "subsampling"_a, "mean"_a.noconvert(), "std"_a.noconvert(),
             "out"_a.noconvert(), "threads"_a = 1, "JPEG at each quality, normalised for a network.");
  module.def("jpeg_sweep_float16", &jpeg_sweep_normalised<Half, FIREWALL_JPEG_FLOAT16>, "pixels"_a.noconvert(),
             "qualities"_a.noconvert(), "subsampling"_a, "mean"_a.noconvert(), "std"_a.noconvert(),
             "out"_a.noconvert(), "threads"_a = 1, "The same in half precision.");
}
