// The JPEG sweep: kernels and plan. What the kernels do is in jpeg_sweep.hpp.
#include <cmath>

#include "jpeg_sweep.hpp"
#include "plan.cuh"

namespace firewall::cuda::jpeg {
namespace {

extern __shared__ __align__(16) unsigned char shared_memory[];

__global__ void __launch_bounds__(kThreads) prepare_kernel(const __grid_constant__ Task task) {
  DeviceBlock block;
  prepare(block, task, static_cast<int>(blockIdx.x), shared_memory);
}

template <typename Value>
__global__ void __launch_bounds__(kThreads) render_kernel(const __grid_constant__ Task task) {
  DeviceBlock block;
  render<Value>(block, task, static_cast<int>(blockIdx.x), shared_memory);
}

using Render = void(Task);

Render* render_kernel_of(int format) {
  return format == FIREWALL_JPEG_UINT8     ? render_kernel<std::uint8_t>
         : format == FIREWALL_JPEG_FLOAT32 ? render_kernel<float>
                                           : render_kernel<std::uint16_t>;
}

class SweepPlan final : public firewall_cuda_plan {
 public:
  SweepPlan(const Shape& of, const Task& of_task, const std::int32_t* qualities, const firewall_jpeg_options& options)
      : firewall_cuda_plan(of),
        task_(of_task),
        coefficients_(static_cast<std::size_t>(of.count) * static_cast<std::size_t>(of_task.blocks) * 8),
        steps_(make_steps(qualities, of.parameters)),
        render_(render_kernel_of(options.format)) {
    load_kernel(prepare_kernel);
    load_kernel(render_);
    task_.coefficients = coefficients_.data();
    task_.steps = steps_.data();
    memory = coefficients_.bytes() + steps_.bytes();
  }

  void launch(void* destination, const firewall_images& source, cudaStream_t stream) const override {
    Task task = task_;
    point(task, source);
    task.destination = destination;
    const auto prepare_memory = static_cast<std::size_t>(task.prepare_memory);
    const auto render_memory = static_cast<std::size_t>(task.canvas.size);
    prepare_kernel<<<grid(source.count, 1, task.tiles), kThreads, prepare_memory, stream>>>(task);
    render_<<<grid(source.count, task.qualities, task.tiles), kThreads, render_memory, stream>>>(task);
  }

 private:
  Task task_;
  DeviceArray<Eight> coefficients_;
  DeviceArray<Step> steps_;
  Render* render_;
};

}  // namespace
}  // namespace firewall::cuda::jpeg

extern "C" int firewall_cuda_jpeg_sweep_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                             const int32_t* qualities, int32_t qualities_count,
                                             const firewall_jpeg_options* options) {
  using namespace firewall::cuda;
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  *plan = nullptr;
  Shape shape;
  const int status = jpeg::check_sweep(shape, count, height, width, qualities, qualities_count, options);
  if (status != FIREWALL_OK) return status;
  return guarded(plan, [&] {
    return std::make_unique<jpeg::SweepPlan>(shape, jpeg::make_task(height, width, qualities_count, *options),
                                             qualities, *options);
  });
}
