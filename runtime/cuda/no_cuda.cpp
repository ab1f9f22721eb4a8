// firewall/cuda.h where the runtime is built without CUDA.
#include "firewall/cuda.h"

namespace {

int refuse(firewall_cuda_plan** plan) {
  if (plan == nullptr) return FIREWALL_NULL_POINTER;
  *plan = nullptr;
  return FIREWALL_NO_CUDA;
}

}  // namespace

extern "C" {

int firewall_cuda_built(void) { return 0; }

int firewall_cuda_usable(void) { return FIREWALL_NO_CUDA; }

const char* firewall_cuda_error_text(void) { return "no error"; }

int firewall_cuda_jpeg_sweep_plan(firewall_cuda_plan** plan, int32_t, int32_t, int32_t, const int32_t*, int32_t,
                                  const firewall_jpeg_options*) {
  return refuse(plan);
}

int firewall_cuda_gaussian_blur_plan(firewall_cuda_plan** plan, int32_t, int32_t, int32_t, const float*, int32_t) {
  return refuse(plan);
}

int firewall_cuda_rotate_plan(firewall_cuda_plan** plan, int32_t, int32_t, int32_t, const double*, int32_t) {
  return refuse(plan);
}

int firewall_cuda_scale_plan(firewall_cuda_plan** plan, int32_t, int32_t, int32_t, const double*, int32_t, int) {
  return refuse(plan);
}

int firewall_cuda_residual_plan(firewall_cuda_plan** plan, int32_t, int32_t, int32_t, const double*, int32_t, int, int,
                                int) {
  return refuse(plan);
}

int firewall_cuda_tensor_plan(firewall_cuda_plan** plan, int32_t, int32_t, int32_t, const double*, const double*) {
  return refuse(plan);
}

size_t firewall_cuda_plan_bytes(const firewall_cuda_plan*, int32_t) { return 0; }

size_t firewall_cuda_plan_memory(const firewall_cuda_plan*) { return 0; }

int firewall_cuda_run(const firewall_cuda_plan*, void*, size_t, const firewall_images*, void*) {
  return FIREWALL_NO_CUDA;
}

void firewall_cuda_plan_free(firewall_cuda_plan*) {}

}  // extern "C"
