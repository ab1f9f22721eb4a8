// Binds firewall/network.h.
#pragma once

#include <nanobind/nanobind.h>

void init_network(nanobind::module_& module);
