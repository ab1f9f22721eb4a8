// Gaussian blur: kernels and plan. What the kernels do is in gaussian_blur.hpp.
#include "gaussian_blur.hpp"

#include "plan.cuh"

namespace firewall::cuda::gaussian_blur {
namespace {

extern __shared__ __align__(16) unsigned char shared_memory[];

__global__ void __launch_bounds__(kThreads) rows_kernel(const __grid_constant__ Task task) {
  DeviceBlock block;
  blur_rows(block, task, static_cast<int>(blockIdx.x), shared_memory);
}

__global__ void __launch_bounds__(kThreads) columns_kernel(const __grid_constant__ Task task) {
  DeviceBlock block;
  blur_columns(block, task, static_cast<int>(blockIdx.x), shared_memory);
}

class BlurPlan final : public firewall_cuda_plan {
 public:
  BlurPlan(const Shape& of, const float* radii)
      : firewall_cuda_plan(of),
        task_(make_task(of.height, of.width, of.parameters)),
        boxes_(make_boxes(radii, of.parameters)) {
    load_kernel(rows_kernel);
    load_kernel(columns_kernel);
    task_.boxes = boxes_.data();
    memory = boxes_.bytes();
  }

  void launch(void* destination, const firewall_images& source, cudaStream_t stream) const override {
    Task task = task_;
    point(task, source);
    task.destination = static_cast<std::uint8_t*>(destination);
    const auto rows_memory = static_cast<std::size_t>(task.rows.memory);
    const auto columns_memory = static_cast<std::size_t>(task.columns.memory);
    rows_kernel<<<grid(source.count, task.radii, task.rows.groups), kThreads, rows_memory, stream>>>(task);
    columns_kernel<<<grid(source.count, task.radii, task.columns.groups), kThreads, columns_memory, stream>>>(task);
  }

 private:
  Task task_;
  DeviceArray<Box> boxes_;
};

}  // namespace
}  // namespace firewall::cuda::gaussian_blur

extern "C" int firewall_cuda_gaussian_blur_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                                const float* radii, int32_t radii_count) {
  using namespace firewall::cuda;
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  *plan = nullptr;
  const Shape shape = {count, height, width, 3, radii_count, 1};
  const int status = gaussian_blur::check_gaussian_blur(shape, radii);
  if (status != FIREWALL_OK) return status;
  return guarded(plan, [&] { return std::make_unique<gaussian_blur::BlurPlan>(shape, radii); });
}
