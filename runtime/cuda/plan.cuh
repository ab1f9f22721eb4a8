// What the plans of all operations share: memory, launches, errors, and the threads that run block programs.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <memory>
#include <new>
#include <vector>

#include "block.hpp"
#include "checks.hpp"
#include "firewall/cuda.h"

namespace firewall::cuda {

constexpr int kThreads = 256;

// The policy of block.hpp on a GPU.
struct DeviceBlock {
  template <typename Work>
  __device__ void each(int n, const Work& work) {
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) work(i);
    __syncthreads();
  }
  // By their names, so that no compiler option makes one operation of the two.
  static __device__ float scaled(float value, float scale, float shift) {
    return __fadd_rn(__fmul_rn(value, scale), shift);
  }
  static __device__ std::uint16_t half(float value) { return __half_as_ushort(__float2half_rn(value)); }
};

// A CUDA call that failed. Never leaves this folder: `guarded` turns it into a status.
struct Failure {
  cudaError_t error;
};

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw Failure{error};
}

// Device memory, with a copy of `values` in it or with nothing.
template <typename Value>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t count) : bytes_(count * sizeof(Value)) {
    void* data = nullptr;
    if (bytes_ > 0) check(cudaMalloc(&data, bytes_));
    data_.reset(static_cast<Value*>(data));
  }
  explicit DeviceArray(const std::vector<Value>& values) : DeviceArray(values.size()) {
    if (bytes_ > 0) check(cudaMemcpy(data_.get(), values.data(), bytes_, cudaMemcpyHostToDevice));
  }
  Value* data() const { return data_.get(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(Value* data) const { cudaFree(data); }  // waits for the device
  };
  std::unique_ptr<Value, Free> data_;
  std::size_t bytes_ = 0;
};

// Loads a kernel now, so that its first launch doesn't, and checks that this GPU has code for it.
template <typename Kernel>
void load_kernel(Kernel* kernel) {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, kernel));
}

}  // namespace firewall::cuda

struct firewall_cuda_plan {
  explicit firewall_cuda_plan(const firewall::cuda::Shape& of) : shape(of) {
    firewall::cuda::check(cudaGetDevice(&device));
  }
  virtual ~firewall_cuda_plan() = default;
  // Queues the kernels; the source has been checked and holds an image or more.
  virtual void launch(void* destination, const firewall_images& source, cudaStream_t stream) const = 0;

  firewall::cuda::Shape shape;
  int device = 0;
  std::size_t memory = 0;
};

namespace firewall::cuda {

// Where a task finds its images.
template <typename Task>
void point(Task& task, const firewall_images& source) {
  task.source = source.data;
  task.row_stride = source.row_stride;
  task.image_stride = source.image_stride;
}

// Blocks of threads; the plan was refused if they can't be numbered.
inline unsigned grid(int count, int parameters, int blocks) {
  return static_cast<unsigned>(count) * static_cast<unsigned>(parameters) * static_cast<unsigned>(blocks);
}

// Remembers a failure for firewall_cuda_error_text, and answers FIREWALL_CUDA_ERROR.
int failed(cudaError_t error) noexcept;

// Makes a plan with `make`, which returns a new one or throws.
template <typename Make>
int guarded(firewall_cuda_plan** plan, const Make& make) noexcept {
  try {
    std::unique_ptr<firewall_cuda_plan> made = make();
    check(cudaDeviceSynchronize());
    *plan = made.release();
    return FIREWALL_OK;
  } catch (const Failure& failure) {
    return failed(failure.error);
  } catch (...) {  // std::bad_alloc: the host has no memory for the tables
    return failed(cudaErrorMemoryAllocation);
  }
}

}  // namespace firewall::cuda
