// Tensors: kernel and plan. What the kernel does is in tensor.hpp.
#include "tensor.hpp"

#include "plan.cuh"

namespace firewall::cuda::tensor {
namespace {

__global__ void __launch_bounds__(kThreads) spread_kernel(const __grid_constant__ Task task) {
  DeviceBlock block;
  spread(block, task, static_cast<int>(blockIdx.x));
}

class TensorPlan final : public firewall_cuda_plan {
 public:
  TensorPlan(const Shape& of, const double* mean, const double* deviation)
      : firewall_cuda_plan(of), task_(make_task(of.height, of.width, mean, deviation)) {
    load_kernel(spread_kernel);
  }

  void launch(void* destination, const firewall_images& source, cudaStream_t stream) const override {
    Task task = task_;
    point(task, source);
    task.destination = static_cast<float*>(destination);
    spread_kernel<<<grid(source.count, 1, task.spans), kThreads, 0, stream>>>(task);
  }

 private:
  Task task_;
};

}  // namespace
}  // namespace firewall::cuda::tensor

extern "C" int firewall_cuda_tensor_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                         const double* mean, const double* std) {
  using namespace firewall::cuda;
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  *plan = nullptr;
  const Shape shape = {count, height, width, 3, 1, 4};
  const int status = tensor::check_tensor(shape, mean, std);
  if (status != FIREWALL_OK) return status;
  return guarded(plan, [&] { return std::make_unique<tensor::TensorPlan>(shape, mean, std); });
}
