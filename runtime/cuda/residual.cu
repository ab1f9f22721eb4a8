// The residual image: kernels and plan. What the kernels do is in residual.hpp.
#include "residual.hpp"

#include "plan.cuh"

namespace firewall::cuda::residual {
namespace {

__global__ void __launch_bounds__(kThreads) shrink_kernel(const __grid_constant__ Task task) {
  __shared__ ResampleMemory shared;
  DeviceBlock block;
  shrink(block, task, static_cast<int>(blockIdx.x), shared);
}

template <typename Value>
__global__ void __launch_bounds__(kThreads) compare_kernel(const __grid_constant__ Task task) {
  __shared__ ResampleMemory shared;
  DeviceBlock block;
  compare<Value>(block, task, static_cast<int>(blockIdx.x), shared);
}

using Compare = void(Task);

class ResidualPlan final : public firewall_cuda_plan {
 public:
  ResidualPlan(const Shape& of, const Task& of_task, const Tables& tables)
      : firewall_cuda_plan(of),
        task_(of_task),
        shares_(tables.shares),
        small_tiles_(tables.small_tiles),
        pool_(tables.pool),
        small_(static_cast<std::size_t>(of_task.small_size) * static_cast<std::size_t>(of.count)),
        compare_(of.value_size == 1 ? compare_kernel<std::uint8_t> : compare_kernel<std::int16_t>) {
    load_kernel(shrink_kernel);
    load_kernel(compare_);
    task_.shares = shares_.data();
    task_.small_tile = small_tiles_.data();
    task_.pool = pool_.data();
    task_.small = small_.data();
    memory = shares_.bytes() + small_tiles_.bytes() + pool_.bytes() + small_.bytes();
  }

  void launch(void* destination, const firewall_images& source, cudaStream_t stream) const override {
    Task task = task_;
    point(task, source);
    task.destination = destination;
    shrink_kernel<<<grid(source.count, 1, task.small_tiles), kThreads, 0, stream>>>(task);
    compare_<<<grid(source.count, task.shares_count, task.tiles), kThreads, 0, stream>>>(task);
  }

 private:
  Task task_;
  DeviceArray<Share> shares_;
  DeviceArray<Tile> small_tiles_;
  DeviceArray<std::int32_t> pool_;
  DeviceArray<std::uint8_t> small_;
  Compare* compare_;
};

}  // namespace
}  // namespace firewall::cuda::residual

extern "C" int firewall_cuda_residual_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                           const double* shares, int32_t shares_count, int down, int up, int coded) {
  using namespace firewall::cuda;
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  *plan = nullptr;
  const Shape shape = {count, height, width, 3, shares_count, coded != 0 ? 1 : 2};
  const int status = residual::check_residual(shape, shares, down, up);
  if (status != FIREWALL_OK) return status;
  return guarded(plan, [&] {
    residual::Tables tables;
    const residual::Task task = residual::make_task(tables, height, width, shares, shares_count, down, up);
    return std::make_unique<residual::ResidualPlan>(shape, task, tables);
  });
}
