// Scaling: kernel and plan. What the kernel does is in scale.hpp.
#include "scale.hpp"

#include "plan.cuh"

namespace firewall::cuda::scale {
namespace {

__global__ void __launch_bounds__(kThreads) resize_kernel(const __grid_constant__ Task task) {
  __shared__ ResampleMemory shared;
  DeviceBlock block;
  resize(block, task, static_cast<int>(blockIdx.x), shared);
}

struct Tables {
  std::vector<std::int32_t> pool;
  std::vector<Factor> factors;
};

class ScalePlan final : public firewall_cuda_plan {
 public:
  ScalePlan(const Shape& of, const Tables& tables)
      : firewall_cuda_plan(of),
        task_(make_task(of.height, of.width, of.parameters)),
        pool_(tables.pool),
        factors_(tables.factors) {
    load_kernel(resize_kernel);
    task_.pool = pool_.data();
    task_.factors = factors_.data();
    memory = pool_.bytes() + factors_.bytes();
  }

  void launch(void* destination, const firewall_images& source, cudaStream_t stream) const override {
    Task task = task_;
    point(task, source);
    task.destination = static_cast<std::uint8_t*>(destination);
    resize_kernel<<<grid(source.count, task.factors_count, task.tiles), kThreads, 0, stream>>>(task);
  }

 private:
  Task task_;
  DeviceArray<std::int32_t> pool_;
  DeviceArray<Factor> factors_;
};

}  // namespace
}  // namespace firewall::cuda::scale

extern "C" int firewall_cuda_scale_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                        const double* factors, int32_t factors_count, int filter) {
  using namespace firewall::cuda;
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  *plan = nullptr;
  const Shape shape = {count, height, width, 3, factors_count, 1};
  const int status = scale::check_scale(shape, factors, filter);
  if (status != FIREWALL_OK) return status;
  return guarded(plan, [&] {
    scale::Tables tables;
    tables.factors = scale::make_factors(tables.pool, factors, factors_count, height, width, filter);
    return std::make_unique<scale::ScalePlan>(shape, tables);
  });
}
