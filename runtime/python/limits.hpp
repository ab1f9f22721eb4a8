// Binds firewall/limits.h.
#pragma once

#include <nanobind/nanobind.h>

void init_limits(nanobind::module_& module);
