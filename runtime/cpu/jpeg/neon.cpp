// The sweep for NEON, which every aarch64 processor has.
#define FIREWALL_LANES_NEON
#include "kernel.hpp"

const firewall::jpeg::Kernel firewall::jpeg::neon_kernel = {kLanes, prepare, render, normalise};
