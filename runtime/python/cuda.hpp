#pragma once

#include <nanobind/nanobind.h>

// cuda_reason, device_array, CudaPlan and what makes one.
void init_cuda(nanobind::module_& module);
