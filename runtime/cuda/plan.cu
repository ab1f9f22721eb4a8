// The part of firewall/cuda.h that is the same for all operations.
#include "plan.cuh"

namespace firewall::cuda {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

int failed(cudaError_t error) noexcept {
  last_error = error;
  cudaGetLastError();  // so that the next check doesn't see it again
  return FIREWALL_CUDA_ERROR;
}

}  // namespace firewall::cuda

using namespace firewall::cuda;

extern "C" {

int firewall_cuda_built(void) { return 1; }

int firewall_cuda_usable(void) {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return failed(error);
  return devices > 0 ? FIREWALL_OK : failed(cudaErrorNoDevice);
}

const char* firewall_cuda_error_text(void) { return cudaGetErrorString(last_error); }

size_t firewall_cuda_plan_bytes(const firewall_cuda_plan* plan, int32_t count) {
  return plan == nullptr ? 0 : result_bytes(plan->shape, count);
}

size_t firewall_cuda_plan_memory(const firewall_cuda_plan* plan) { return plan == nullptr ? 0 : plan->memory; }

int firewall_cuda_run(const firewall_cuda_plan* plan, void* destination, size_t destination_size,
                      const firewall_images* source, void* stream) {
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  const int status = check_run(plan->shape, destination, destination_size, source);
  if (status != FIREWALL_OK || source->count == 0) return status;
  try {
    int device = 0;
    check(cudaGetDevice(&device));
    if (device != plan->device) return failed(cudaErrorInvalidDevice);
    plan->launch(destination, *source, static_cast<cudaStream_t>(stream));
    check(cudaGetLastError());
  } catch (const Failure& failure) {
    return failed(failure.error);
  }
  return FIREWALL_OK;
}

void firewall_cuda_plan_free(firewall_cuda_plan* plan) { delete plan; }

}  // extern "C"
