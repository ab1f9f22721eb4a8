#pragma once

#include <nanobind/nanobind.h>

void init_jpeg_sweep(nanobind::module_& module);
