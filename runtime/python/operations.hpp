#pragma once

#include <nanobind/nanobind.h>

// gaussian_blur, rotate, scale and residual, as functions of the module.
void init_operations(nanobind::module_& module);
