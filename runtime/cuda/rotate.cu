// Rotation: kernel and plan. What the kernel does is in rotate.hpp.
#include "firewall/rotate.h"

#include "plan.cuh"
#include "rotate.hpp"

namespace firewall::cuda::rotate {
namespace {

__global__ void __launch_bounds__(kThreads) turn_kernel(const __grid_constant__ Task task) {
  __shared__ __align__(16) unsigned char shared[kMemory];
  DeviceBlock block;
  turn(block, task, static_cast<int>(blockIdx.x), shared);
}

class RotatePlan final : public firewall_cuda_plan {
 public:
  RotatePlan(const Shape& of, const double* angles)
      : firewall_cuda_plan(of),
        task_(make_task(of.height, of.width, of.parameters)),
        affines_(make_affines(angles, of.parameters, of.height, of.width)) {
    load_kernel(turn_kernel);
    task_.affines = affines_.data();
    memory = affines_.bytes();
  }

  void launch(void* destination, const firewall_images& source, cudaStream_t stream) const override {
    Task task = task_;
    point(task, source);
    task.destination = static_cast<std::uint8_t*>(destination);
    turn_kernel<<<grid(source.count, task.angles, task.spans), kThreads, 0, stream>>>(task);
  }

 private:
  Task task_;
  DeviceArray<Affine> affines_;
};

}  // namespace
}  // namespace firewall::cuda::rotate

extern "C" int firewall_cuda_rotate_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                         const double* angles, int32_t angles_count) {
  using namespace firewall::cuda;
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  *plan = nullptr;
  const Shape shape = {count, height, width, 3, angles_count, 1};
  const int status = rotate::check_rotate(shape, angles);
  if (status != FIREWALL_OK) return status;
  return guarded(plan, [&] { return std::make_unique<rotate::RotatePlan>(shape, angles); });
}
