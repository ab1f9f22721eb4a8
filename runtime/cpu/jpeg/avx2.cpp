// The sweep for AVX2 (with F16C).
#define FIREWALL_LANES_AVX2
#include "kernel.hpp"

const firewall::jpeg::Kernel firewall::jpeg::avx2_kernel = {kLanes, prepare, render, normalise};
