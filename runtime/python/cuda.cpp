// Plans and runs on an NVIDIA GPU. firewall/transforms/cuda.py checks shapes and types and passes addresses; the C
// interface checks sizes and strides.
#include "cuda.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "firewall/cuda.h"

namespace nb = nanobind;

namespace {

using Qualities = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Radii = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Channels = nb::ndarray<const double, nb::shape<3>, nb::c_contig, nb::device::cpu>;

void check(int status) {
  if (status == FIREWALL_OK) return;
  if (status == FIREWALL_CUDA_ERROR) throw std::runtime_error(firewall_cuda_error_text());
  if (status == FIREWALL_NO_CUDA) throw std::runtime_error(firewall_status_text(status));
  throw nb::value_error(firewall_status_text(status));
}

struct Free {
  void operator()(firewall_cuda_plan* plan) const { firewall_cuda_plan_free(plan); }
};

class Plan {
 public:
  // make(plan) calls one of the functions of cuda.h.
  template <typename Make>
  static Plan made(const Make& make) {
    firewall_cuda_plan* plan = nullptr;
    int status;
    {
      nb::gil_scoped_release release;
      status = make(&plan);
    }
    check(status);
    Plan result;
    result.plan_.reset(plan);
    return result;
  }

  std::size_t bytes(std::int32_t count) const { return firewall_cuda_plan_bytes(plan_.get(), count); }
  std::size_t memory() const { return firewall_cuda_plan_memory(plan_.get()); }

  void run(std::uintptr_t destination, std::size_t destination_size, std::uintptr_t source, std::int32_t count,
           std::int32_t height, std::int32_t width, std::ptrdiff_t image_stride, std::ptrdiff_t row_stride,
           std::uintptr_t stream) const {
    const firewall_images images = {
        reinterpret_cast<const std::uint8_t*>(source), image_stride, row_stride, count, height, width};
    check(firewall_cuda_run(plan_.get(), reinterpret_cast<void*>(destination), destination_size, &images,
                            reinterpret_cast<void*>(stream)));
  }

 private:
  std::unique_ptr<firewall_cuda_plan, Free> plan_;
};

template <typename List>
std::int32_t length(const List& list) {
  if (list.shape(0) > 0x7fffffff) throw nb::value_error(firewall_status_text(FIREWALL_BAD_SIZE));
  return static_cast<std::int32_t>(list.shape(0));
}

Plan jpeg_sweep_plan(std::int32_t count, std::int32_t height, std::int32_t width, const Qualities& qualities,
                     std::int32_t sampling, std::int32_t format, const Channels& mean, const Channels& std) {
  firewall_jpeg_options options{};
  options.sampling = sampling;
  options.format = format;
  for (std::size_t c = 0; c < 3; ++c) {
    options.mean[c] = mean.data()[c];
    options.std[c] = std.data()[c];
  }
  return Plan::made([&](firewall_cuda_plan** plan) {
    return firewall_cuda_jpeg_sweep_plan(plan, count, height, width, qualities.data(), length(qualities), &options);
  });
}

Plan gaussian_blur_plan(std::int32_t count, std::int32_t height, std::int32_t width, const Radii& radii) {
  return Plan::made([&](firewall_cuda_plan** plan) {
    return firewall_cuda_gaussian_blur_plan(plan, count, height, width, radii.data(), length(radii));
  });
}

Plan rotate_plan(std::int32_t count, std::int32_t height, std::int32_t width, const Numbers& angles) {
  return Plan::made([&](firewall_cuda_plan** plan) {
    return firewall_cuda_rotate_plan(plan, count, height, width, angles.data(), length(angles));
  });
}

Plan scale_plan(std::int32_t count, std::int32_t height, std::int32_t width, const Numbers& factors, int filter) {
  return Plan::made([&](firewall_cuda_plan** plan) {
    return firewall_cuda_scale_plan(plan, count, height, width, factors.data(), length(factors), filter);
  });
}

Plan residual_plan(std::int32_t count, std::int32_t height, std::int32_t width, const Numbers& shares, int down, int up,
                   bool coded) {
  return Plan::made([&](firewall_cuda_plan** plan) {
    return firewall_cuda_residual_plan(plan, count, height, width, shares.data(), length(shares), down, up, coded);
  });
}

Plan tensor_plan(std::int32_t count, std::int32_t height, std::int32_t width, const Channels& mean,
                 const Channels& std) {
  return Plan::made([&](firewall_cuda_plan** plan) {
    return firewall_cuda_tensor_plan(plan, count, height, width, mean.data(), std.data());
  });
}

// Why no plan can be made here, or nothing.
std::string reason() {
  const int status = firewall_cuda_usable();
  if (status == FIREWALL_OK) return {};
  return status == FIREWALL_CUDA_ERROR ? firewall_cuda_error_text() : firewall_status_text(status);
}

std::string type_name(nb::dlpack::dtype type) {
  if (type.lanes != 1) return "packed";
  const char* kind = "other";
  switch (static_cast<nb::dlpack::dtype_code>(type.code)) {
    case nb::dlpack::dtype_code::Int:
      kind = "int";
      break;
    case nb::dlpack::dtype_code::UInt:
      kind = "uint";
      break;
    case nb::dlpack::dtype_code::Float:
      kind = "float";
      break;
    case nb::dlpack::dtype_code::Bfloat:
      kind = "bfloat";
      break;
    case nb::dlpack::dtype_code::Bool:
      return "bool";
    default:
      break;
  }
  return kind + std::to_string(type.bits);
}

// Address, shape, strides in bytes, type, and whether it is on a CUDA device, of an array that speaks DLPack.
template <typename Array>
nb::tuple device_array(const Array& array) {
  const int place = array.device_type();
  const auto item = static_cast<std::int64_t>(array.itemsize());
  nb::list shape, strides;
  for (std::size_t i = 0; i < array.ndim(); ++i) {
    shape.append(array.shape(i));
    strides.append(array.stride(i) * item);
  }
  const bool on_device = place == nb::device::cuda::value || place == nb::device::cuda_managed::value;
  return nb::make_tuple(reinterpret_cast<std::uintptr_t>(array.data()), nb::tuple(shape), nb::tuple(strides),
                        type_name(array.dtype()), on_device);
}

}  // namespace

void init_cuda(nb::module_& module) {
  using namespace nb::literals;
  module.attr("CUDA_BUILT") = firewall_cuda_built() != 0;
  module.def("cuda_reason", &reason, "Why nothing can run on a GPU here; empty if it can.");
  module.def("device_array", &device_array<nb::ndarray<nb::ro>>, "array"_a.noconvert(),
             "Address, shape, strides in bytes, type and whether it is on a CUDA device.");
  module.def("writable_device_array", &device_array<nb::ndarray<>>, "array"_a.noconvert(),
             "The same of an array that may be written to.");
  nb::class_<Plan>(module, "CudaPlan", "An operation prepared for a GPU; see firewall/cuda.h.")
      .def("bytes", &Plan::bytes, "count"_a, "Bytes that a run with `count` images writes.")
      .def("memory", &Plan::memory, "Bytes of device memory that the plan holds.")
      .def("run", &Plan::run, "destination"_a, "destination_size"_a, "source"_a, "count"_a, "height"_a, "width"_a,
           "image_stride"_a, "row_stride"_a, "stream"_a, "Queues the work; addresses are of device memory.");
  module.def("cuda_jpeg_sweep_plan", &jpeg_sweep_plan, "count"_a, "height"_a, "width"_a, "qualities"_a.noconvert(),
             "sampling"_a, "result_format"_a, "mean"_a.noconvert(), "std"_a.noconvert(), "A plan of the JPEG sweep.");
  module.def("cuda_gaussian_blur_plan", &gaussian_blur_plan, "count"_a, "height"_a, "width"_a, "radii"_a.noconvert(),
             "A plan of the Gaussian blur.");
  module.def("cuda_rotate_plan", &rotate_plan, "count"_a, "height"_a, "width"_a, "angles"_a.noconvert(),
             "A plan of the rotation.");
  module.def("cuda_scale_plan", &scale_plan, "count"_a, "height"_a, "width"_a, "factors"_a.noconvert(), "resampling"_a,
             "A plan of the scaling.");
  module.def("cuda_residual_plan", &residual_plan, "count"_a, "height"_a, "width"_a, "shares"_a.noconvert(), "down"_a,
             "up"_a, "coded"_a, "A plan of the residual image.");
  module.def("cuda_tensor_plan", &tensor_plan, "count"_a, "height"_a, "width"_a, "mean"_a.noconvert(),
             "std"_a.noconvert(), "A plan of the tensor.");
}
